-- A worker gives a job back, to go on elsewhere at once; no loss is counted. ARGV: id, attempt, claim.
local id, attempt, claim = take(), take(), take()
if not holds(id, attempt, claim) then return false end
count('handed_back|' .. get(id, 'kind'))
if get(id, 'cancel_requested_ms') then
  finish(id, 'cancelled')
else
  leave(id)
  enqueue(id, 0)
end
return get(id, 'state')
