-- fence, ms to keep the key, then fields and values
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'info', 'at', 'manifest', 'state', 'credential', 'buy', 'buy_info')
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
keep(KEYS[1], ARGV[2])
return 1
