-- One worker gets the job: queued, and the message's attempt is the record's next.
-- ARGV: id, attempt, claim token, worker, pid, lease in ms, threads. Returns the record, or nothing.
-- The same call once more (its answer was lost on the way) is answered as the first time.
local id, attempt, claim, worker, pid, ttl_ms, threads = take(), take(), take(), take(), take(), take_number(), take()
if holds(id, attempt, claim) then return redis.call('HGETALL', job(id)) end
if get(id, 'state') ~= 'queued' or number(id, 'attempt') + 1 ~= tonumber(attempt) then return false end
local kind, pool, before_ms = get(id, 'kind'), get(id, 'pool'), number(id, 'waited_ms')
leave(id)
local wait_ms = number(id, 'waited_ms') - before_ms
set(id, 'attempt', attempt, 'claim', claim, 'worker', worker, 'pid', pid, 'claimed_ms', NOW, 'artifacts', '[]',
  'prefix', attempt .. '-' .. claim, 'wait_ms', wait_ms)
redis.call('HSETNX', job(id), 'started_ms', NOW)
redis.call('HSETNX', job(id), 'threads', threads)  -- the first claim fixes it: sums depend on the number of threads
local timeout_ms = number(id, 'timeout_ms')
if timeout_ms > 0 then set(id, 'deadline_ms', NOW + math.max(0, timeout_ms - number(id, 'ran_ms'))) end
redis.call('ZADD', P .. 'leases', NOW + ttl_ms, id)
redis.call('ZADD', P .. 'running:' .. pool, NOW, id)
redis.call('SADD', P .. 'held:' .. worker, id)
if tonumber(attempt) > 1 then redis.call('ZADD', P .. 'untidy', NOW + LATE_WRITES_MS, id) end
count('claims|' .. kind)
observe('wait', id, wait_ms)
to_state(id, 'running')
return redis.call('HGETALL', job(id))
