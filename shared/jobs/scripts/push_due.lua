-- Push the messages of retried jobs whose time has come. ARGV: the longest delay in ms, how many at most.
-- Returns how many. A time later than any may be was written before the clock stepped back: cut.
local longest_ms, limit = take_number(), take_number()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'delayed', '(' .. NOW + longest_ms, '+inf', 'LIMIT', 0, limit)) do
  delay(id, NOW + longest_ms)
end
local due = redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', NOW, 'LIMIT', 0, limit)
for _, id in ipairs(due) do
  redis.call('ZREM', P .. 'delayed', id)
  push(id)
end
return #due
