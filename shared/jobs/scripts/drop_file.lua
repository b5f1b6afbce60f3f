-- An upload that no record refers to and nobody renewed since: unknown from now on, so its blob may be deleted.
-- While `dropping` stands, the same content waits to be uploaded anew.
-- ARGV: sha256, ms of its last use. Returns 1 or 0.
local sha256, before_ms = take(), take_number()
local used_ms = tonumber(redis.call('ZSCORE', P .. 'files', sha256) or '0')
if used_ms > before_ms or redis.call('EXISTS', P .. 'uses:file:' .. sha256) == 1 then return 0 end
redis.call('DEL', P .. 'file:' .. sha256)
redis.call('ZREM', P .. 'files', sha256)
redis.call('SET', P .. 'dropping:' .. sha256, 1, 'PX', 60000)
return 1
