-- Gives back what take.lua took: for each key its step, in microseconds
for i, key in ipairs(KEYS) do
  local at = redis.call('GET', key)
  if at then redis.call('SET', key, whole(math.max(0, tonumber(at) - tonumber(ARGV[i]))), 'KEEPTTL') end
end
return 1
