-- A due entry was dealt with: strike it off, unless it was put off meanwhile. ARGV: set, member, its score then.
local key, member, score = P .. take(), take(), take_number()
if tonumber(redis.call('ZSCORE', key, member) or '-1') == score then redis.call('ZREM', key, member) end
