-- Remove a finished job's record. ARGV: id, '1' if its files go too, references..., labels...
-- Returns 'gone', 'not:<state>' when unfinished, 'used:<id>' when an unfinished job needs it, 'busy' when its files are
-- to be kept and not in order yet, or nothing when there is no record.
local id, with_files, references, labels = take(), take() == '1', take_list(), take_list()
local state = get(id, 'state')
if state and not is_final(state) then return 'not:' .. state end
for _, other in ipairs(redis.call('SMEMBERS', P .. 'uses:job:' .. id)) do
  local other_state = get(other, 'state')
  if other_state and not is_final(other_state) then return 'used:' .. other end
end
if not state then return false end
local is_written = redis.call('SISMEMBER', P .. 'uncommitted', id) == 0
if not with_files and not (is_written and not redis.call('ZSCORE', P .. 'untidy', id)) then return 'busy' end

local function free_key(key, holder)  -- unless it has passed to another meanwhile
  if key and redis.call('HGET', P .. 'idem:' .. key, 'id') == holder then redis.call('DEL', P .. 'idem:' .. key) end
end

local function throw_away(key)  -- a while later once more: a worker that lost its lease may be writing
  if with_files then redis.call('ZADD', P .. 'garbage', NOW + 10 * LATE_WRITES_MS, key) end
end

for _, ref in ipairs(references) do redis.call('SREM', P .. 'uses:' .. ref, id) end
for _, label in ipairs(labels) do redis.call('ZREM', P .. 'ix:label:' .. label, id) end
redis.call('ZREM', P .. 'ix:all', id)
redis.call('ZREM', P .. 'ix:state:' .. state, id)
redis.call('ZREM', P .. 'ix:kind:' .. get(id, 'kind'), id)
redis.call('ZREM', P .. 'ix:owner:' .. get(id, 'owner'), id)
redis.call('ZREM', P .. 'finished', id)
redis.call('SREM', P .. 'uncommitted', id)
redis.call('ZREM', P .. 'untidy', id)
if with_files then free_key(get(id, 'idem'), id) end
throw_away('jobs/' .. id)
local sweep = get(id, 'sweep')
if sweep then
  redis.call('LREM', P .. 'sweep_jobs:' .. sweep, 1, id)
  if redis.call('LLEN', P .. 'sweep_jobs:' .. sweep) == 0 then
    free_key(redis.call('HGET', P .. 'sweep:' .. sweep, 'idem'), sweep)
    redis.call('DEL', P .. 'sweep:' .. sweep)
    redis.call('ZREM', P .. 'ix:sweeps', sweep)
    throw_away('sweeps/' .. sweep .. '.json')
  end
end
redis.call('DEL', job(id), P .. 'events:' .. id, P .. 'log:' .. id)
return 'gone'
