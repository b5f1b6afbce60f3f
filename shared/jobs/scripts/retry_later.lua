-- A retryable error: again after base · 2^n, at most `longest`, unless the losses are used up.
-- ARGV: id, attempt, claim, error type, message, base ms, longest ms. Returns the state, or nothing when stale.
local id, attempt, claim = take(), take(), take()
local error_type, error_message, base_ms, longest_ms = take(), take(), take_number(), take_number()
if not holds(id, attempt, claim) then return false end
count('retried|' .. get(id, 'kind') .. '|' .. error_type)
local losses = redis.call('HINCRBY', job(id), 'losses', 1)
if get(id, 'cancel_requested_ms') then
  finish(id, 'cancelled')
elseif losses >= number(id, 'max_attempts') then
  finish(id, 'failed', error_type, error_message, '1')
else
  leave(id)
  enqueue(id, NOW + math.min(longest_ms, base_ms * 2 ^ (losses - 1)))
end
return get(id, 'state')
