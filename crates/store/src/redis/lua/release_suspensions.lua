for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 1) == 'b' then redis.call('HDEL', KEYS[1], field) end
end
return 1
