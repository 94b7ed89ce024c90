-- Forgets consumers that ended and hold no message.
--
-- KEYS[1]: the consumers by when they were last heard of
-- ARGV[1]: the prefix of their metadata keys   ARGV[2]: that of the sets of what they hold
-- ARGV[3]: after so many seconds of silence a consumer has ended   ARGV[4..]: names
local cutoff = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[3])
local forgotten = 0
for i = 4, #ARGV do
    local name = ARGV[i]
    local heard = redis.call('ZSCORE', KEYS[1], name)
    local ended = not heard or tonumber(heard) <= cutoff
    if ended and redis.call('EXISTS', ARGV[2] .. name) == 0 then
        redis.call('ZREM', KEYS[1], name)
        redis.call('DEL', ARGV[1] .. name)
        forgotten = forgotten + 1
    end
end
return forgotten
