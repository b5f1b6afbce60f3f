-- A worker that doesn't know the kind took the message: push it again a little later, for a worker that does.
-- ARGV: id, attempt, delay ms
local id, attempt, delay_ms = take(), take(), take_number()
if get(id, 'state') ~= 'queued' or number(id, 'attempt') + 1 ~= tonumber(attempt) then return false end
redis.call('ZREM', P .. 'published:' .. get(id, 'list'), id)
delay(id, NOW + delay_ms)
return 'queued'
