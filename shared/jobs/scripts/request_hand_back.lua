-- A stopping worker asks for its jobs back. ARGV: worker. Returns the ids asked.
local asked = redis.call('SMEMBERS', P .. 'held:' .. take())
for _, id in ipairs(asked) do
  if get(id, 'state') == 'running' then set(id, 'hand_back', NOW) end
end
return asked
