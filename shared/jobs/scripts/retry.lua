-- A person's retry of a failed or cancelled job, from its last checkpoint.
-- ARGV: id, awaited job ids..., template digest, message, list.
-- Returns the state, 'not:<state>', 'unmet:<id>', or nothing.
local id, awaited, digest, message, list = take(), take_list(), take(), take(), take()
local state = get(id, 'state')
if not state then return false end
if state ~= 'failed' and state ~= 'cancelled' then return 'not:' .. state end
local unfinished = {}
for _, other in ipairs(awaited) do
  local other_state = get(other, 'state')
  if other_state == 'failed' or other_state == 'cancelled' then return 'unmet:' .. other end
  if other_state and not is_final(other_state) then unfinished[#unfinished + 1] = other end
end
unset(id, 'finished_ms', 'cancel_requested_ms', 'error_type', 'error_message', 'error_retryable', 'timings')
redis.call('HSETNX', P .. 'templates', digest, message)
set(id, 'losses', 0, 'ran_ms', 0, 'template', digest, 'list', list)
redis.call('ZREM', P .. 'finished', id)
redis.call('SREM', P .. 'uncommitted', id)
redis.call('PERSIST', P .. 'events:' .. id)
redis.call('PERSIST', P .. 'log:' .. id)
for _, other in ipairs(unfinished) do
  redis.call('SADD', P .. 'waiting:' .. id, other)
  redis.call('SADD', P .. 'dependants:' .. other, id)
end
if #unfinished > 0 then to_state(id, 'blocked') else enqueue(id, 0) end
return get(id, 'state')
