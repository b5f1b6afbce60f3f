-- One open event stream more for this caller, if its cap allows. ARGV: caller, stream id, cap, life ms. Returns 0 or 1.
local key, stream, cap, life_ms = P .. 'streams:' .. take(), take(), take_number(), take_number()
redis.call('ZREMRANGEBYSCORE', key, '-inf', NOW)
if not redis.call('ZSCORE', key, stream) and redis.call('ZCARD', key) >= cap then return 0 end
redis.call('ZADD', key, NOW + life_ms, stream)
redis.call('PEXPIRE', key, life_ms)
return 1
