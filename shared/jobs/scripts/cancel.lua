-- Cancel: at once when nobody runs it, else ask. ARGV: id. Returns the state, 'final:<state>', or nothing.
local id = take()
local state = get(id, 'state')
if not state then return false end
if state == 'running' then
  if redis.call('HSETNX', job(id), 'cancel_requested_ms', NOW) == 1 then event(id, 'state', 'running') end
elseif state == 'queued' or state == 'blocked' then
  set(id, 'cancel_requested_ms', NOW)
  finish(id, 'cancelled')
else
  return 'final:' .. state
end
return get(id, 'state')
