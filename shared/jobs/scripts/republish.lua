-- Push again what left its list without being claimed. A queued job's message is gone when its publish number is
-- below the oldest message's, or the list is empty; it must have been so for `patience` ms.
-- ARGV: list, patience ms, how many at most. Returns the ids pushed.
local list, patience_ms, limit = take(), take_number(), take_number()
local oldest = redis.call('LINDEX', list, -1)
local bound = '+inf'
if oldest then
  local publish = string.match(oldest, '"tenfold_publish": "(%d+)"')
  bound = publish and ('(' .. publish) or '-inf'
end
local pushed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'published:' .. list, '-inf', bound, 'LIMIT', 0, limit)) do
  local missing_ms = tonumber(get(id, 'missing_ms') or NOW)
  if missing_ms >= NOW then set(id, 'missing_ms', NOW) end  -- just missed, or the clock stepped back
  if NOW - missing_ms >= patience_ms then
    push(id)
    count('republished|' .. get(id, 'pool'))
    pushed[#pushed + 1] = id
  end
end
return pushed
