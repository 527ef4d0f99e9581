-- now
local account = redis.call('HMGET', KEYS[1], 'units', 'ends')
if not account[2] or tonumber(account[2]) <= tonumber(ARGV[1]) then return '0' end
return account[1]
