-- Leaves the version behind for a while, so that the next record of this name has a newer one.
-- expected version or '' for any, now, ms to keep the trace
local stored = redis.call('GET', KEYS[1])
if not stored or tonumber(string.sub(stored, 21, 36)) <= tonumber(ARGV[2]) then return 0 end
local version = string.sub(stored, 1, 20)
if ARGV[1] ~= '' and ARGV[1] ~= version then return 0 end
redis.call('SET', KEYS[1], version .. string.rep('0', 16), 'PX', ARGV[3])
return 1
