-- committed.json was written as the record stood: it lacks one no more, unless the record has changed since.
-- ARGV: id, attempt, finished_ms. Returns 'settled', 'changed', or 'deleted' when the file must go again.
local id, attempt, finished_ms = take(), take(), take()
if redis.call('ZSCORE', P .. 'garbage', 'jobs/' .. id) then return 'deleted' end
local state = get(id, 'state')
if not state or not is_final(state) then
  redis.call('SREM', P .. 'uncommitted', id)
  return 'changed'
end
if get(id, 'attempt') == attempt and get(id, 'finished_ms') == finished_ms then
  redis.call('SREM', P .. 'uncommitted', id)
  return 'settled'
end
redis.call('SADD', P .. 'uncommitted', id)
return 'changed'
