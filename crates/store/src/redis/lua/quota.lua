-- The sum after its end in 16 digits.
-- amount, most, end if it begins now, now, ms to keep the key if it begins now
local stored = redis.call('GET', KEYS[1])
local total, ends = 0, ARGV[3]
if stored and tonumber(string.sub(stored, 1, 16)) > tonumber(ARGV[4]) then
  total, ends = tonumber(string.sub(stored, 17)), string.sub(stored, 1, 16)
else
  stored = nil
end
local amount = tonumber(ARGV[1])
if amount == 0 then return {1, whole(total), ends} end
local sum = total + amount
if sum > tonumber(ARGV[2]) then return {0, whole(total), ends} end
if stored then
  redis.call('SET', KEYS[1], ends .. whole(sum), 'KEEPTTL')
else
  redis.call('SET', KEYS[1], ends .. whole(sum), 'PX', ARGV[5])
end
return {1, whole(sum), ends}
