-- What a running job says: fields (progress, artifacts, checkpoint), events, log text.
-- ARGV: id, attempt, claim, longest log in bytes, log text, fields..., events (type, data)...
-- Returns the flags, or nothing when the claim is stale.
local id, attempt, claim, log_bytes, text = take(), take(), take(), take_number(), take()
if not holds(id, attempt, claim) then return false end
local fields, events = take_list(), take_list()
if #fields > 0 then set(id, unpack(fields)) end
for n = 1, #events, 2 do event(id, events[n], events[n + 1]) end
local log = P .. 'log:' .. id
if text ~= '' and redis.call('STRLEN', log) < log_bytes then redis.call('APPEND', log, text) end
return flags(id)
