-- field of the hold, estimate, floor, now, most fields, time before which a hold is forgotten
local account = redis.call('HMGET', KEYS[1], 'units', 'ends', ARGV[1])
local estimate, floor, now = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if not account[2] or tonumber(account[2]) <= now then
  if estimate == 0 and floor == 0 then return {1, '0'} end
  return {0, '0'}
end
if account[3] then return {1, account[1]} end
local units = tonumber(account[1])
if units < math.max(estimate, floor) then return {0, account[1]} end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then
  -- What a replica that died held stays spent; only its trace goes.
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local at = string.sub(all[i], 1, 2) == 'h:' and tonumber(string.match(all[i + 1], ' (%d+)$'))
    if at and at < tonumber(ARGV[6]) then redis.call('HDEL', KEYS[1], all[i]) end
  end
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return {2, account[1]} end
end
local left = whole(units - estimate)
redis.call('HSET', KEYS[1], 'units', left, ARGV[1], ARGV[2] .. ' ' .. ARGV[4])
return {1, left}
