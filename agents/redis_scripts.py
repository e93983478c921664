"""What Redis does for a shared performance table, each in one atomic step (see `agents.redis_table`).

Keys: meta, entries, changes, use, base, writer. Numbers are written with 17 digits, which keep a double exactly.
"""

EXCHANGE = """
local meta, entries, changes, use, base, writer = unpack(KEYS)
local known_epoch, new_epoch, description, number, batch, since, rate = unpack(ARGV)
local epoch = redis.call('HGET', meta, 'epoch')
if not epoch then
  epoch = new_epoch
  redis.call('HSET', meta, 'epoch', epoch, 'description', description)
end
if epoch ~= known_epoch then return {epoch, '0', {}, {}, {}} end
local version = tonumber(redis.call('HGET', meta, 'version') or '0')
if tonumber(number) > tonumber(redis.call('GET', writer) or '0') then
  redis.call('SET', writer, number, 'EX', 86400)
  local content = cjson.decode(batch)
  for _, sample in ipairs(content.samples) do
    local entry, load, latency = unpack(sample)
    local old = redis.call('HGET', entries, entry)
    if old then
      local old_load, old_latency = string.match(old, '^(%S+) (%S+)$')
      load = old_load + rate * (load - old_load)
      latency = old_latency + rate * (latency - old_latency)
    end
    version = version + 1
    redis.call('HSET', entries, entry, string.format('%.17g %.17g', load, latency))
    redis.call('ZADD', changes, version, entry)
  end
  for _, sum in ipairs(content.use) do
    redis.call('HINCRBYFLOAT', use, sum[1], string.format('%.17g', sum[2]))
  end
  redis.call('HSET', meta, 'version', string.format('%.0f', version))
end
local changed = {}
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', changes, '(' .. since, '+inf')) do
  changed[#changed + 1] = entry
  changed[#changed + 1] = redis.call('HGET', entries, entry)
end
return {epoch, string.format('%.0f', version), changed, redis.call('HGETALL', use), redis.call('HGETALL', base)}
"""
"""Take a batch once, and return what has changed.

Arguments: the epoch that the writer knows, one to begin with if there is none, a description, the batch's number and
content, the version up to which the writer knows all, the rate. Returns: epoch, version, changed entries and their
values, sums since the epoch, sums before it.
"""

FILL = """
local meta, entries, changes, use, base, writer = unpack(KEYS)
if redis.call('HGET', meta, 'epoch') ~= ARGV[1] then return 0 end
local version = tonumber(redis.call('HGET', meta, 'version') or '0')
local content = cjson.decode(ARGV[2])
for _, pair in ipairs(content[1]) do
  if redis.call('HSETNX', entries, pair[1], pair[2]) == 1 then
    version = version + 1
    redis.call('ZADD', changes, version, pair[1])
  end
end
for _, pair in ipairs(content[2]) do redis.call('HSETNX', base, pair[1], pair[2]) end
redis.call('HSET', meta, 'version', string.format('%.0f', version))
return 1
"""
"""Put back what is missing: entries, and the sums of the time before.

Arguments: the epoch that is met, the content.
"""
