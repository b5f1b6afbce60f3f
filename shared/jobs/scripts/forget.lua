-- Remove a finished job's record. ARGV: id, '1' if its files go too, references..., labels...
-- Returns 'gone', 'not:<state>' when unfinished, 'used:<id>' when an unfinished job needs it, or nothing.
local id, with_files, references, labels = take(), take(), take_list(), take_list()
local state = get(id, 'state')
if not state then return false end
if state ~= 'succeeded' and state ~= 'failed' and state ~= 'cancelled' then return 'not:' .. state end
for _, other in ipairs(redis.call('SMEMBERS', P .. 'uses:job:' .. id)) do
  local other_state = get(other, 'state')
  if other_state == 'blocked' or other_state == 'queued' or other_state == 'running' then return 'used:' .. other end
end
for _, ref in ipairs(references) do redis.call('SREM', P .. 'uses:' .. ref, id) end
for _, label in ipairs(labels) do redis.call('ZREM', P .. 'ix:label:' .. label, id) end
redis.call('ZREM', P .. 'ix:all', id)
redis.call('ZREM', P .. 'ix:state:' .. state, id)
redis.call('ZREM', P .. 'ix:kind:' .. get(id, 'kind'), id)
redis.call('ZREM', P .. 'ix:owner:' .. get(id, 'owner'), id)
redis.call('ZREM', P .. 'finished', id)
redis.call('SREM', P .. 'uncommitted', id)
redis.call('SREM', P .. 'untidy', id)
local idem = get(id, 'idem')
if idem then redis.call('DEL', P .. 'idem:' .. idem) end
local sweep = get(id, 'sweep')
if sweep then
  redis.call('LREM', P .. 'sweep_jobs:' .. sweep, 1, id)
  if redis.call('LLEN', P .. 'sweep_jobs:' .. sweep) == 0 then
    local sweep_key = redis.call('HGET', P .. 'sweep:' .. sweep, 'idem')
    if sweep_key then redis.call('DEL', P .. 'idem:' .. sweep_key) end
    redis.call('DEL', P .. 'sweep:' .. sweep)
    redis.call('ZREM', P .. 'ix:sweeps', sweep)
  end
end
redis.call('DEL', job(id), P .. 'events:' .. id, P .. 'log:' .. id, P .. 'uses:job:' .. id)
if with_files == '1' then redis.call('SADD', P .. 'garbage', id) end
return 'gone'
