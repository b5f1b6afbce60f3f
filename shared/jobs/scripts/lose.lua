-- The worker of this attempt is gone. ARGV: id, attempt, '1' if only an expired lease may be ended.
-- Returns the state the job is in now, or nothing when there was nothing to lose.
local id, attempt, only_expired = take(), take(), take()
if get(id, 'state') ~= 'running' or get(id, 'attempt') ~= attempt then return false end
if only_expired == '1' then
  local deadline = tonumber(redis.call('ZSCORE', P .. 'leases', id) or '0')
  if deadline > NOW then return false end
end
local why = get(id, 'hand_back') and 'stopped' or only_expired == '1' and 'lease_expired' or 'process_died'
count('lost|' .. get(id, 'kind') .. '|' .. why)
if get(id, 'cancel_requested_ms') then
  finish(id, 'cancelled')
elseif is_overtime(id) then
  fail_overtime(id)
else
  local losses = number(id, 'losses')
  if not get(id, 'hand_back') then losses = redis.call('HINCRBY', job(id), 'losses', 1) end
  if losses >= number(id, 'max_attempts') then
    finish(id, 'failed', 'worker_lost', 'the worker was lost ' .. losses .. ' times (max_attempts ' ..
      number(id, 'max_attempts') .. '); retry to go on from the last checkpoint', '1')
  else
    leave(id)
    enqueue(id, 0)
  end
end
return get(id, 'state')
