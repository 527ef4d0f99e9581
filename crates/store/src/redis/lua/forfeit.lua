-- Everything but the account's end and the purchases that were booked.
local account = redis.call('HMGET', KEYS[1], 'ends', 'bought')
local ttl = redis.call('PTTL', KEYS[1])
if not account[1] or ttl <= 0 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'units', '0', 'ends', account[1], 'bought', account[2])
redis.call('PEXPIRE', KEYS[1], ttl)
return 1
