-- A finished record from its committed.json, unless it is there or was deleted.
-- ARGV: id, fields..., references..., labels..., the fields of its sweep... Returns 1 or 0.
local id, fields, references, labels, sweep_fields = take(), take_list(), take_list(), take_list(), take_list()
if redis.call('EXISTS', job(id)) == 1 or redis.call('ZSCORE', P .. 'garbage', 'jobs/' .. id) then return 0 end
set(id, unpack(fields))
redis.call('ZADD', P .. 'ix:all', 0, id)
for _, name in ipairs({'kind', 'owner', 'state'}) do
  redis.call('ZADD', P .. 'ix:' .. name .. ':' .. get(id, name), 0, id)
end
for _, label in ipairs(labels) do redis.call('ZADD', P .. 'ix:label:' .. label, 0, id) end
for _, ref in ipairs(references) do redis.call('SADD', P .. 'uses:' .. ref, id) end
redis.call('ZADD', P .. 'finished', get(id, 'finished_ms'), id)
local sweep = get(id, 'sweep')
if sweep then
  redis.call('RPUSH', P .. 'sweep_jobs:' .. sweep, id)
  redis.call('ZADD', P .. 'ix:sweeps', 0, sweep)
  for n = 1, #sweep_fields, 2 do
    redis.call('HSETNX', P .. 'sweep:' .. sweep, sweep_fields[n], sweep_fields[n + 1])
  end
end
return 1
