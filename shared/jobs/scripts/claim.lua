-- One worker gets the job: queued, and the message's attempt is the record's next.
-- ARGV: id, attempt, claim token, worker, pid, lease in ms, threads. Returns the record, or nothing.
local id, attempt, claim, worker, pid, ttl_ms, threads = take(), take(), take(), take(), take(), take_number(), take()
if get(id, 'state') ~= 'queued' or number(id, 'attempt') + 1 ~= tonumber(attempt) then return false end
leave(id)
set(id, 'attempt', attempt, 'claim', claim, 'worker', worker, 'pid', pid, 'claimed_ms', NOW, 'artifacts', '[]',
  'prefix', attempt .. '-' .. claim)
redis.call('HSETNX', job(id), 'started_ms', NOW)
redis.call('HSETNX', job(id), 'threads', threads)  -- the first claim fixes it: sums depend on the number of threads
local timeout_ms = number(id, 'timeout_ms')
if timeout_ms > 0 then set(id, 'deadline_ms', NOW + math.max(0, timeout_ms - number(id, 'ran_ms'))) end
redis.call('ZADD', P .. 'leases', NOW + ttl_ms, id)
redis.call('ZADD', P .. 'running:' .. get(id, 'pool'), NOW, id)
redis.call('SADD', P .. 'held:' .. worker, id)
redis.call('HINCRBY', P .. 'counters', 'claims|' .. get(id, 'kind'), 1)
redis.call('HINCRBY', P .. 'counters', 'waited_ms|' .. get(id, 'pool'), number(id, 'waited_ms'))
to_state(id, 'running')
return redis.call('HGETALL', job(id))
