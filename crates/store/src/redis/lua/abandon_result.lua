-- field, owner
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored and string.sub(stored, 1, 1) == 'c' and string.sub(stored, 18) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
