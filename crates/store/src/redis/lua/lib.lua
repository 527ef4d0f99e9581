-- Put before every script. Times and amounts are whole numbers below 2^53; versions and fences are
-- 20 digits, compared in two halves because a float holds only 16.
local function keep(key, ms)
  if redis.call('PTTL', key) < tonumber(ms) then redis.call('PEXPIRE', key, ms) end
end
local function whole(number)
  return string.format('%.0f', number)
end
local function halves(token)
  return tonumber(string.sub(token, 1, 10)), tonumber(string.sub(token, 11, 20))
end
local function newer(last, candidate)
  if not last then return candidate end
  local last_high, last_low = halves(last)
  local high, low = halves(candidate)
  if high > last_high or (high == last_high and low > last_low) then return candidate end
  last_low = last_low + 1
  if last_low >= 1e10 then last_high, last_low = last_high + 1, 0 end
  return string.format('%010.0f%010.0f', last_high, last_low)
end
