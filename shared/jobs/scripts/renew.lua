-- Prolong the lease. ARGV: id, attempt, claim, lease in ms. Returns the flags, or nothing when the claim is stale.
local id, attempt, claim, ttl_ms = take(), take(), take(), take_number()
if not holds(id, attempt, claim) then return false end
redis.call('ZADD', P .. 'leases', 'XX', NOW + ttl_ms, id)
return flags(id)
