-- Removes ids that can't be delivered from wherever a consumer may find them.
--
-- KEYS[1]: the hash of messages   KEYS[2]: the ids that are due later   KEYS[3]: the ids that are due now
-- KEYS[4]: the consumers   ARGV[1]: the prefix of metadata keys   ARGV[2]: that of the sets of what consumers hold
local removed = 0

local function is_readable(id)
    if redis.call('HEXISTS', KEYS[1], id) == 0 then
        return false
    end
    local needed = redis.call('HMGET', ARGV[1] .. ':' .. id, 'attempts', 'max_attempts', 'status')
    return needed[1] and needed[2] and needed[3]
end

local function forget(id)
    redis.call('HDEL', KEYS[1], id)
    redis.call('DEL', ARGV[1] .. ':' .. id)
    removed = removed + 1
end

for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if not is_readable(id) then
        redis.call('ZREM', KEYS[2], id)
        forget(id)
    end
end

local active, readable = redis.call('LRANGE', KEYS[3], 0, -1), {}
for _, id in ipairs(active) do
    if is_readable(id) then
        table.insert(readable, id)
    else
        forget(id)
    end
end
if #readable < #active then
    redis.call('DEL', KEYS[3])
    -- Lua passes a few thousand values at most.
    for first = 1, #readable, 1000 do
        redis.call('RPUSH', KEYS[3], unpack(readable, first, math.min(first + 999, #readable)))
    end
end

for _, consumer in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    local held = ARGV[2] .. ':' .. consumer
    for _, id in ipairs(redis.call('SMEMBERS', held)) do
        if not is_readable(id) then
            redis.call('SREM', held, id)
            forget(id)
        end
    end
end

return removed
