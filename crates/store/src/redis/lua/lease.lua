-- owner, candidate fence, until, now, ms to keep the key
local lease = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'until')
local fence = lease[1]
-- Whoever had it last has it still under the same fence, if nobody had it since.
if lease[2] ~= ARGV[1] then
  if lease[2] and tonumber(lease[3]) > tonumber(ARGV[4]) then return {0, lease[3]} end
  fence = newer(lease[1], ARGV[2])
end
redis.call('HSET', KEYS[1], 'fence', fence, 'owner', ARGV[1], 'until', ARGV[3])
keep(KEYS[1], ARGV[5])
return {1, fence}
