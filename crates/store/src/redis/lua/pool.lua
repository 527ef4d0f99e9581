-- A pool is its version (20 digits) and its bytes; those only if they are not the known ones.
-- known version or ''
local version = redis.call('GETRANGE', KEYS[1], 0, 19)
if version == '' or version == ARGV[1] then return {version, ''} end
return {version, redis.call('GETRANGE', KEYS[1], 20, -1)}
