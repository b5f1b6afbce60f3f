-- Write the records of one or many jobs, their indexes, the idempotency key, and push their messages: all or nothing.
-- ARGV: owner, cap, the call, idempotency key or '', fingerprint, its life in ms; the templates (digest, message)...;
--       '1' and a sweep (entropy, fields...) or '0'; the number of jobs; then for each
--       entropy, fields..., awaited job ids..., references..., labels... (each list with its count first).
-- Returns {'new', created ms, state, id} | {'ok', sweep id, ids...} | {'same', id} | {'other_body'} | {'quota', n}
--         | {'unmet', id, state} | {'dropped', ref}
-- 'new' is a single job that this very call has written: its record needs no reading.
-- `call` is one call of the caller's: sent twice (its answer was lost on the way), it is answered as the first time.

local owner, cap, call, key, fingerprint, key_life = take(), take_number(), take(), take(), take(), take_number()
local CALL_LIFE_MS = 600 * 1000  -- longer than any client tries

local written = redis.call('GET', P .. 'call:' .. call)
if written then
  local ids = redis.call('LRANGE', P .. 'sweep_jobs:' .. written, 0, -1)
  if #ids == 0 then return {'ok', '', written} end
  return {'ok', written, unpack(ids)}
end

if key ~= '' then
  local known = redis.call('HMGET', P .. 'idem:' .. key, 'fingerprint', 'id')
  if known[1] then return known[1] == fingerprint and {'same', known[2]} or {'other_body'} end
end

local templates = take_list()
local sweep = take() == '1' and {entropy = take(), fields = take_list()}

local jobs = {}
for n = 1, take_number() do
  jobs[n] = {entropy = take(), fields = take_list()}
  jobs[n].awaited, jobs[n].references, jobs[n].labels = take_list(), take_list(), take_list()
end

local unfinished = redis.call('ZCARD', P .. 'ix:unfinished:' .. owner)
if unfinished + #jobs > cap then return {'quota', unfinished} end

for _, new in ipairs(jobs) do
  for _, id in ipairs(new.awaited) do
    local state = get(id, 'state')
    if not state or state == 'failed' or state == 'cancelled' then return {'unmet', id, state or 'unknown'} end
  end
  for _, ref in ipairs(new.references) do
    if string.sub(ref, 1, 5) == 'file:' and redis.call('EXISTS', P .. ref) == 0 then return {'dropped', ref} end
  end
end

-- Nothing has been written so far; from here on nothing is refused.
for n = 1, #templates, 2 do redis.call('HSETNX', P .. 'templates', templates[n], templates[n + 1]) end
local sweep_id = sweep and new_id(sweep.entropy)
local answer = {'ok', sweep_id or ''}
for _, new in ipairs(jobs) do
  local id = new_id(new.entropy)
  set(id, 'id', id, 'owner', owner, 'created_ms', NOW, 'attempt', 0, 'losses', 0, unpack(new.fields))
  if sweep_id then
    set(id, 'sweep', sweep_id)
    redis.call('RPUSH', P .. 'sweep_jobs:' .. sweep_id, id)
  end
  if key ~= '' and not sweep_id then set(id, 'idem', key) end
  redis.call('ZADD', P .. 'ix:all', 0, id)
  redis.call('ZADD', P .. 'ix:kind:' .. get(id, 'kind'), 0, id)
  redis.call('ZADD', P .. 'ix:owner:' .. owner, 0, id)
  for _, label in ipairs(new.labels) do redis.call('ZADD', P .. 'ix:label:' .. label, 0, id) end
  for _, ref in ipairs(new.references) do redis.call('SADD', P .. 'uses:' .. ref, id) end
  for _, other in ipairs(new.awaited) do
    if get(other, 'state') ~= 'succeeded' then
      redis.call('SADD', P .. 'waiting:' .. id, other)
      redis.call('SADD', P .. 'dependants:' .. other, id)
    end
  end
  if redis.call('SCARD', P .. 'waiting:' .. id) > 0 then to_state(id, 'blocked') else enqueue(id, 0) end
  answer[#answer + 1] = id
end

if sweep_id then
  redis.call('HSET', P .. 'sweep:' .. sweep_id, 'id', sweep_id, 'owner', owner, 'created_ms', NOW, unpack(sweep.fields))
  if key ~= '' then redis.call('HSET', P .. 'sweep:' .. sweep_id, 'idem', key) end
  redis.call('ZADD', P .. 'ix:sweeps', 0, sweep_id)
end
if key ~= '' then
  redis.call('HSET', P .. 'idem:' .. key, 'fingerprint', fingerprint, 'id', sweep_id or answer[3])
  redis.call('PEXPIRE', P .. 'idem:' .. key, key_life)
end
redis.call('SET', P .. 'call:' .. call, sweep_id or answer[3], 'PX', CALL_LIFE_MS)
if not sweep_id and #jobs == 1 then return {'new', NOW, get(answer[3], 'state'), answer[3]} end
return answer
