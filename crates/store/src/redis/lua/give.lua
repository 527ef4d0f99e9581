-- Gives back what take.lua took: for each key 'r' and its step in microseconds, or 'q' and its cost
for i, key in ipairs(KEYS) do
  local stored, amount = redis.call('GET', key), tonumber(ARGV[i * 2])
  if stored and ARGV[i * 2 - 1] == 'r' then
    redis.call('SET', key, whole(math.max(0, tonumber(stored) - amount)), 'KEEPTTL')
  elseif stored then
    local sum = math.max(0, tonumber(string.sub(stored, 17)) - amount)
    redis.call('SET', key, string.sub(stored, 1, 16) .. whole(sum), 'KEEPTTL')
  end
end
return 1
