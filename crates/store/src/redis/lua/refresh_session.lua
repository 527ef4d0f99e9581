-- manifest id, now, info
local record = redis.call('HMGET', KEYS[1], 'ends', 'manifest')
if not record[1] or tonumber(record[1]) <= tonumber(ARGV[2]) or record[2] ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'info', ARGV[3], 'at', ARGV[2])
return 1
