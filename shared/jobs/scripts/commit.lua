-- The outcome, once. ARGV: id, attempt, claim, state, fields..., error type or '', message, retryable.
-- After a cancel was requested a job ends cancelled, whatever its worker says.
-- Returns the state it ended in, or nothing when the claim is stale.
local id, attempt, claim, state, fields = take(), take(), take(), take(), take_list()
local error_type, error_message, error_retryable = take(), take(), take()
if not holds(id, attempt, claim) then return false end
if get(id, 'cancel_requested_ms') then state, error_type = 'cancelled', '' end
if state == 'succeeded' then
  set(id, unpack(fields))
  unset(id, 'checkpoint')
else
  for n = 1, #fields, 2 do
    if fields[n] ~= 'result' then set(id, fields[n], fields[n + 1]) end
  end
end
if error_type == '' then finish(id, state) else finish(id, state, error_type, error_message, error_retryable) end
return state
