-- A claim is 'c', its end in 16 digits, its owner; an answer is 'd', its end, its bytes.
-- field, owner, until, now, ms to keep the key
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored and tonumber(string.sub(stored, 2, 17)) > tonumber(ARGV[4]) then
  if string.sub(stored, 1, 1) == 'd' then return {2, string.sub(stored, 18)} end
  if string.sub(stored, 18) ~= ARGV[2] then return {1, string.sub(stored, 2, 17)} end
end
redis.call('HSET', KEYS[1], ARGV[1], 'c' .. ARGV[3] .. ARGV[2])
keep(KEYS[1], ARGV[5])
return {0, ''}
