-- GCRA over all limits of one owner; all or nothing. Times in microseconds.
-- now, ms to keep a key beyond its use, then for each limit: its key's place, step, period
local now, count = tonumber(ARGV[1]), (#ARGV - 2) / 3
local at, ahead = {}, {}
for i = 1, count do
  local key = tonumber(ARGV[i * 3])
  local step, period = tonumber(ARGV[i * 3 + 1]), tonumber(ARGV[i * 3 + 2])
  at[key] = at[key] or math.max(now, tonumber(redis.call('GET', KEYS[key]) or 0))
  local reach = at[key] + step - now
  if reach > period then return {0, i - 1, whole(math.ceil((reach - period) / 1000))} end
  at[key], ahead[i + 1] = now + reach, whole(reach)
end
for key, time in pairs(at) do
  local ms = math.ceil((time - now) / 1000)
  if ms > 0 then redis.call('SET', KEYS[key], whole(time), 'PX', whole(ms + tonumber(ARGV[2]))) end
end
ahead[1] = 1
return ahead
