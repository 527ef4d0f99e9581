-- field of the hold, units used, now, most units
local account = redis.call('HMGET', KEYS[1], 'units', 'ends', ARGV[1])
if not account[2] or tonumber(account[2]) <= tonumber(ARGV[3]) then return '0' end
if not account[3] then return account[1] end
local estimate = tonumber(string.match(account[3], '^(%d+) '))
local most = tonumber(ARGV[4])
local units = tonumber(account[1]) + estimate - tonumber(ARGV[2])
units = whole(math.max(-most, math.min(most, units)))
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], 'units', units)
return units
