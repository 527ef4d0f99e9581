-- field, value (expiry in 16 digits, then the score or the reason), now, ms to keep the key, most fields
-- A suspension ('b…') gives way only to a later one.
if string.sub(ARGV[1], 1, 1) == 'b' then
  local known = redis.call('HGET', KEYS[1], ARGV[1])
  if known and tonumber(string.sub(known, 1, 16)) >= tonumber(string.sub(ARGV[2], 1, 16)) then
    return 1
  end
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if tonumber(string.sub(all[i + 1], 1, 16)) <= tonumber(ARGV[3]) then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
keep(KEYS[1], ARGV[4])
return 1
