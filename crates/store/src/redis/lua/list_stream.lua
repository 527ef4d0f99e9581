-- time of last use, stream, ms to keep the key, most streams
redis.call('ZADD', KEYS[1], 'GT', ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
keep(KEYS[1], ARGV[3])
return 1
