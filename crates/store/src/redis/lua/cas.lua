-- A record is its version (20 digits), its expiry (16 digits) and its bytes.
-- expected version or '', candidate version, expiry, now, ms to keep the key, bytes
local stored = redis.call('GET', KEYS[1])
local last = stored and string.sub(stored, 1, 20)
local live = stored and tonumber(string.sub(stored, 21, 36)) > tonumber(ARGV[4])
if (live and last or '') ~= ARGV[1] then
  return {0, live and stored or ''}
end
local version = newer(last, ARGV[2])
redis.call('SET', KEYS[1], version .. ARGV[3] .. ARGV[6], 'PX', ARGV[5])
return {1, version}
