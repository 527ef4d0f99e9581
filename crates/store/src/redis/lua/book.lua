-- purchase id, units, expiry, now, ms to keep the key, most units, ids remembered
local account = redis.call('HMGET', KEYS[1], 'units', 'ends', 'bought')
local units, ends, bought = account[1], account[2], account[3]
if not ends or tonumber(ends) <= tonumber(ARGV[4]) then
  redis.call('DEL', KEYS[1])
  units, ends, bought = '0', '0', '\n'
end
if tonumber(ends) < tonumber(ARGV[3]) then ends = ARGV[3] end
if not string.find(bought, '\n' .. ARGV[1] .. '\n', 1, true) then
  units = whole(math.min(tonumber(units) + tonumber(ARGV[2]), tonumber(ARGV[6])))
  bought = bought .. ARGV[1] .. '\n'
  local _, count = string.gsub(bought, '\n', '')
  if count - 1 > tonumber(ARGV[7]) then bought = string.match(bought, '^\n[^\n]*(\n.*)$') end
end
redis.call('HSET', KEYS[1], 'units', units, 'ends', ends, 'bought', bought)
keep(KEYS[1], ARGV[5])
return units
