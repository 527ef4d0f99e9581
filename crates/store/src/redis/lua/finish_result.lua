-- field, expiry, bytes, now, ms to keep the key, most fields
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored and string.sub(stored, 1, 1) == 'd'
  and tonumber(string.sub(stored, 2, 17)) > tonumber(ARGV[4]) then
  return string.sub(stored, 18)
end
redis.call('HSET', KEYS[1], ARGV[1], 'd' .. ARGV[2] .. ARGV[3])
keep(KEYS[1], ARGV[5])
local spare = redis.call('HLEN', KEYS[1]) - tonumber(ARGV[6])
if spare > 0 then
  -- What expires first goes; claims that have not lapsed stay.
  local all, ends = redis.call('HGETALL', KEYS[1]), {}
  for i = 1, #all, 2 do
    local at = string.sub(all[i + 1], 2, 17)
    if tonumber(at) <= tonumber(ARGV[4]) then
      redis.call('HDEL', KEYS[1], all[i])
      spare = spare - 1
    elseif string.sub(all[i + 1], 1, 1) == 'd' and all[i] ~= ARGV[1] then
      ends[#ends + 1] = at .. all[i]
    end
  end
  table.sort(ends)
  for i = 1, math.min(spare, #ends) do redis.call('HDEL', KEYS[1], string.sub(ends[i], 17)) end
end
return ARGV[3]
