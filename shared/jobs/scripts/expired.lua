-- Running jobs whose lease has run out, oldest first. ARGV: the longest lease in ms, how many at most.
-- Returns {id, attempt, ...}. A lease that ends later than any may was written before the clock stepped back: cut.
local longest_ms, limit = take_number(), take_number()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '(' .. NOW + longest_ms, '+inf', 'LIMIT', 0, limit)) do
  redis.call('ZADD', P .. 'leases', NOW + longest_ms, id)
end
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', NOW, 'LIMIT', 0, limit)) do
  found[#found + 1] = id
  found[#found + 1] = get(id, 'attempt')
end
return found
