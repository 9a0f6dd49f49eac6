/**
 * The Lua that writes runs: what every writing script begins with.
 *
 * A script validates all before its first write, as Redis keeps what a failing script wrote. Of the writes, the one that
 * a full Redis or a replica refuses comes first; and what can fail after it (a foreign key in the place of one of ours)
 * leaves an index entry that no event names, which readers skip.
 */

/** ARGV of every writing script, from 1; a script's own arguments come after. */
export const sharedArgs = 7

/**
 * KEYS: 1 the run's hash, 2 its stream.
 *
 * ARGV: 1 prefix of the keys that span runs, 2 run, 3 now in ms or '' for the server's time, 4 ms that an ended run is
 * kept or '', 5 events that a run keeps or '', 6 '1' where appends are indexed, 7 the channel of the run's room or ''
 *
 * `load` gives a run's head: 1 generation, 2 session, 3 vocabulary, 4 first seq, 5 last seq, 6 ending, 7 last activity,
 * 8 lease version, 9 lease expiry, 10 bytes of the largest record, 11 last index entry, 12 index entry of the last trimmed
 * event, and a further field where one is asked for.
 */
export const lua = `
local P, RUN, INDEXED, CHANNEL = ARGV[1], ARGV[2], ARGV[6] == '1', ARGV[7]
local AGE, KEEP = tonumber(ARGV[4]), tonumber(ARGV[5])

local function time()
  if ARGV[3] ~= '' then return tonumber(ARGV[3]) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function text(number) return string.format('%.0f', number) end

local function unindex(sid, at, most)
  for _ = 1, most do
    local entry = redis.call('XRANGE', P .. 'index', at, at)[1]
    if not entry then at = '0' break end
    redis.call('XDEL', P .. 'index', at)
    if sid ~= '' then redis.call('XDEL', P .. 'index:' .. sid, at) end
    at = entry[2][8]
    if at == '0' then break end
  end
  if at ~= '0' then redis.call('SADD', P .. 'removed', at .. ' ' .. sid) end
  if redis.call('XLEN', P .. 'index') == 0 then redis.call('UNLINK', P .. 'index') end
  if sid ~= '' and redis.call('XLEN', P .. 'index:' .. sid) == 0 then redis.call('UNLINK', P .. 'index:' .. sid) end
end

local function forget(sid, ix)
  redis.call('UNLINK', KEYS[1], KEYS[2])
  redis.call('ZREM', P .. 'runs', RUN)
  redis.call('ZREM', P .. 'open', RUN)
  redis.call('ZREM', P .. 'ended', RUN)
  redis.call('HDEL', P .. 'remains', RUN)
  if sid ~= '' then redis.call('ZREM', P .. 'runs:' .. sid, RUN) end
  if ix ~= '0' then unindex(sid, ix, 500) end
end

-- what an expired run left: false where it is no expired run, but an evicted one or none
local function remains(now)
  local left = redis.call('HGET', P .. 'remains', RUN)
  if not left then return false end
  local expires, ix, sid = string.match(left, '^(%d+) (%d+) (.*)$')
  if not expires or tonumber(expires) > now then return false end
  return { sid, ix }
end

local function load(field)
  return redis.call('HMGET', KEYS[1], 'g', 's', 'v', 'f', 'l', 'x', 'at', 'lv', 'le', 'mx', 'ix', 'tp', field)
end

local function isExpired(h, now) return h[6] and AGE and tonumber(h[7]) + AGE <= now end

-- gives a position to n events, and the append an entry in the index
local function index(first, n, sid, previous)
  local position = redis.call('INCRBY', P .. 'position', n)
  local added = redis.pcall('XADD', P .. 'index', position, 'r', RUN, 'f', first, 'n', n, 'v', previous)
  if type(added) == 'table' and added.err then
    -- the counter was evicted: the index knows the last position
    local info = redis.call('XINFO', 'STREAM', P .. 'index')
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then position = tonumber(string.match(info[i + 1], '^%d+')) + n end
    end
    redis.call('SET', P .. 'position', text(position))
    redis.call('XADD', P .. 'index', position, 'r', RUN, 'f', first, 'n', n, 'v', previous)
  end
  if sid ~= '' then redis.call('XADD', P .. 'index:' .. sid, position, 'r', RUN, 'f', first, 'n', n, 'v', previous) end
  return position
end

-- trims what is before first, and the index entries of appends that are trimmed whole, but the last one's
local function trim(first, most, sid, edge)
  local cut, trimmed = first, edge
  if INDEXED or edge then
    local last = redis.call('XRANGE', KEYS[2], first - 1, first - 1)[1]
    trimmed = last and last[2][4] or edge
    local old = redis.call('XRANGE', KEYS[2], '-', first - 1, 'COUNT', most)
    local dead = {}
    if edge and edge ~= trimmed then dead[edge] = true end
    for i = 1, #old do
      local entry = old[i][2][4]
      if entry and entry ~= trimmed then dead[entry] = true end
    end
    for entry in pairs(dead) do
      redis.call('XDEL', P .. 'index', entry)
      if sid ~= '' then redis.call('XDEL', P .. 'index:' .. sid, entry) end
    end
    if #old == most then cut = tonumber(string.match(old[most][1], '^%d+')) + 1 end
  end
  redis.call('XTRIM', KEYS[2], 'MINID', '=', cut)
  return trimmed
end

-- appends records from..from+n-1 of recs to the run; set: the fields of the hash that the caller changes
local function write(h, isNew, now, recs, from, n, lengths, ending, set)
  local sid, first = h[2] or '', tonumber(h[5]) + 1
  local last = first + n - 1
  if isNew then
    if redis.call('EXISTS', KEYS[2]) == 1 then return { 'evicted' } end
    if redis.call('ZSCORE', P .. 'runs', RUN) then
      local left = remains(now)
      if not left then return { 'evicted' } end
      forget(left[1], left[2])
    end
    redis.call('ZADD', P .. 'runs', now, RUN)
    redis.call('ZADD', P .. 'open', now, RUN)
    if sid ~= '' then redis.call('ZADD', P .. 'runs:' .. sid, now, RUN) end
  end
  local position = INDEXED and index(first, n, sid, h[11] or '0')
  local largest = tonumber(h[10] or 0)
  local mx = largest
  for i = 0, n - 1 do
    local record = recs[from + i]
    if #record > mx then mx = #record end
    local added
    if i == 0 and not isNew then
      if position then added = redis.call('XADD', KEYS[2], 'NOMKSTREAM', first, 'r', record, 'p', position)
      else added = redis.call('XADD', KEYS[2], 'NOMKSTREAM', first, 'r', record) end
      if not added then return { 'evicted' } end
    elseif position then redis.call('XADD', KEYS[2], first + i, 'r', record, 'p', position)
    else redis.call('XADD', KEYS[2], first + i, 'r', record) end
  end
  local at = #set
  set[at + 1], set[at + 2], set[at + 3], set[at + 4] = 'l', last, 'at', now
  at = at + 4
  if mx > largest then set[at + 1], set[at + 2] = 'mx', mx at = at + 2 end
  if position then set[at + 1], set[at + 2] = 'ix', position at = at + 2 end
  if KEEP and last - KEEP + 1 > tonumber(h[4]) then
    local edge = trim(last - KEEP + 1, n + 1000, sid, h[12])
    set[at + 1], set[at + 2] = 'f', last - KEEP + 1
    at = at + 2
    if edge then set[at + 1], set[at + 2] = 'tp', edge at = at + 2 end
  end
  if ending ~= '' then
    local ix = position and text(position) or h[11] or '0'
    set[at + 1], set[at + 2] = 'x', ending
    redis.call('ZREM', P .. 'open', RUN)
    redis.call('ZADD', P .. 'ended', now, RUN)
    if AGE then redis.call('HSET', P .. 'remains', RUN, text(now + AGE) .. ' ' .. ix .. ' ' .. sid) end
  end
  redis.call('HSET', KEYS[1], unpack(set))
  if ending ~= '' then
    redis.call('HDEL', KEYS[1], 'le', 'w', 'we')
    if AGE then
      redis.call('PEXPIRE', KEYS[1], AGE)
      redis.call('PEXPIRE', KEYS[2], AGE)
    end
  end
  if CHANNEL ~= '' then
    redis.call('PUBLISH', CHANNEL, table.concat({ '1', h[1], first, n, position or 0, string.match(h[3], '^%S+'), RUN,
      sid ~= '' and sid or '-' }, ' ') .. '\\n' .. lengths .. '\\n' .. table.concat(recs, '', from, from + n - 1))
  end
  return { 'stored', h[1], sid, h[3], first, position or 0 }
end

-- the version of the lease after a claim (ttl), an end, or both
local function leaseVersion(h, ttl, ending)
  local version = tonumber(h[8] or 0)
  if ttl then version = version + 1 end
  if ending ~= '' and (ttl or h[9]) then version = version + 1 end
  return version
end
`
