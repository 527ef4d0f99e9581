-- All limits of one owner; all or nothing. Rates are GCRA in microseconds, a quota is its end in 16 digits
-- and then its sum.
-- now in microseconds, now in milliseconds, ms to keep a key beyond its use, then for each limit: its key's
-- place, and of a rate 'r', step, period, 0; of a quota 'q', cost, most, its end if it begins now
local now, now_ms, count = tonumber(ARGV[1]), tonumber(ARGV[2]), (#ARGV - 3) / 5
local at, sums, ends, changed, left = {}, {}, {}, {}, {}
for i = 1, count do
  local from = i * 5 - 2
  local key, x, y = tonumber(ARGV[from + 1]), tonumber(ARGV[from + 3]), tonumber(ARGV[from + 4])
  if ARGV[from + 2] == 'r' then
    at[key] = at[key] or math.max(now, tonumber(redis.call('GET', KEYS[key]) or 0))
    local reach = at[key] + x - now
    if reach > y then return {0, i - 1, whole(math.ceil((reach - y) / 1000))} end
    at[key], left[i + 1], left[count + i + 1] = now + reach, whole(reach), 0
  else
    if not sums[key] then
      local stored = redis.call('GET', KEYS[key])
      if stored and tonumber(string.sub(stored, 1, 16)) > now_ms then
        sums[key], ends[key] = tonumber(string.sub(stored, 17)), string.sub(stored, 1, 16)
      else
        sums[key], ends[key] = 0, ARGV[from + 5]
      end
    end
    local sum = sums[key] + x
    if x > 0 and sum > y then return {0, i - 1, whole(tonumber(ends[key]) - now_ms)} end
    sums[key], changed[key], left[i + 1] = sum, changed[key] or x > 0, whole(math.max(0, y - sum))
    left[count + i + 1] = whole(tonumber(ends[key]) - now_ms)
  end
end
for key, time in pairs(at) do
  local ms = math.ceil((time - now) / 1000)
  if ms > 0 then redis.call('SET', KEYS[key], whole(time), 'PX', whole(ms + tonumber(ARGV[3]))) end
end
for key, sum in pairs(sums) do
  local ms = tonumber(ends[key]) - now_ms + tonumber(ARGV[3])
  if changed[key] then redis.call('SET', KEYS[key], ends[key] .. whole(sum), 'PX', whole(ms)) end
end
left[1] = 1
return left
