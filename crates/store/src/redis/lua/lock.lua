-- owner, until in 16 digits, now, ms to keep the key
local held = redis.call('GET', KEYS[1])
if held and tonumber(string.sub(held, 1, 16)) > tonumber(ARGV[3]) and string.sub(held, 17) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2] .. ARGV[1], 'PX', ARGV[4])
return 1
