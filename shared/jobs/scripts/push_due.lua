-- Push the messages of retried jobs whose time has come. ARGV: how many at most. Returns how many.
local due = redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', NOW, 'LIMIT', 0, take_number())
for _, id in ipairs(due) do
  redis.call('ZREM', P .. 'delayed', id)
  if get(id, 'state') == 'queued' then push(id) end
end
return #due
