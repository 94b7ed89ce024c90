-- Forgets messages that are finished for good.
--
-- KEYS[1]: the set of finished ids   KEYS[2]: the hash of messages   KEYS[3]: the ids that wait to be handled again
-- ARGV[1]: the prefix of metadata keys   ARGV[2]: younger ones stay, in seconds   ARGV[3..]: ids of KEYS[1]
local cutoff = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[2])
local forgotten = 0
for i = 3, #ARGV do
    local id = ARGV[i]
    local meta = ARGV[1] .. ':' .. id
    local finished_at = tonumber(redis.call('HGET', meta, 'done_at') or '') or 0
    if finished_at <= cutoff and not redis.call('ZSCORE', KEYS[3], id) then
        redis.call('SREM', KEYS[1], id)
        redis.call('HDEL', KEYS[2], id)
        redis.call('DEL', meta)
        forgotten = forgotten + 1
    end
end
return forgotten
