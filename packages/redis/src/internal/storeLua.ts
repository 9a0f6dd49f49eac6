/**
 * The Lua that writes runs: what every writing script begins with.
 *
 * A script validates all before its first write, as Redis keeps what a failing script wrote. Of the writes, the one that
 * a full Redis or a replica refuses comes first; and what can fail after it (a foreign key in the place of one of ours)
 * leaves an index entry that no event names, which readers skip.
 *
 * A script is one round trip, but each call in it and each argument costs about as much as a tenth of a round trip. So what
 * never changes within a store is part of the text, what is always read together is one field, and what is rarely needed is
 * read where it is.
 */
import { mostBytes, unread } from "../RedisFrame.ts"
import { runChannel, shared } from "../RedisKeys.ts"

/** What is the same for all scripts of a store. */
export interface StoreSettings {
  readonly prefix: string
  /** Milliseconds that an ended run is kept. */
  readonly ageAfterEnd: number | undefined
  readonly eventsPerRun: number | undefined
  readonly isIndexed: boolean
  readonly isPublished: boolean
  /** A repeated append writes its producer's state again, so that `WAIT` has something to wait for. */
  readonly rewritesRepeats: boolean
}

/** A Lua string literal: Lua 5.1 knows bytes, written in decimal, and no `\u`. */
const literal = (text: string): string => {
  let escaped = ""
  for (const byte of new TextEncoder().encode(text)) escaped += `\\${String(byte).padStart(3, "0")}`
  return `'${escaped}'`
}

/**
 * The server's clock in ms, unless `ARGV[2]` is one; as text, like every number that is only passed on: Lua's numbers are
 * floats, and printing one takes longer than adding an entry.
 */
const time = `
local function time()
  if ARGV[2] ~= '' then return ARGV[2] end
  local t = redis.call('TIME')
  return t[1] .. string.sub('00000' .. t[2], -6, -4)
end
`

/**
 * Publishes records to the run's room. It is asked who listens only where putting the message together costs more than
 * that; what is too large for a message is told by one that has nothing in it. A publish that fails (a user without the
 * right to the channel) must not fail the append, which is done by then.
 */
const publishing = (prefix: string): string => `
local function publish(recs, from, n, bytes, header)
  local room = ${literal(runChannel(prefix))} .. RUN
  if bytes > 4096 then
    if redis.call('PUBSUB', 'NUMSUB', room)[2] == 0 then return end
    if bytes > ${mostBytes} then
      redis.pcall('PUBLISH', room, '${unread}')
      return
    end
  end
  redis.pcall('PUBLISH', room, header .. (n == 1 and recs[from] or table.concat(recs, '', from, from + n - 1)))
end
`

/** What reading scripts begin with. ARGV: 1 run, 2 now in ms or '' for the server's time */
export const readingLua = (settings: StoreSettings): string => `
local P, AGE = ${literal(shared(settings.prefix))}, ${settings.ageAfterEnd ?? "nil"}
local RUN = ARGV[1]
${time}
`

/**
 * What writing scripts begin with.
 *
 * KEYS: 1 the run's hash, 2 its stream. ARGV: 1 run, 2 now in ms or '' for the server's time
 *
 * A run's identity `i`, its hash's first field, is `GENERATION SESSION VERSION "VOCABULARY"`, with `*` for no session: no
 * id has that.
 */
export const writingLua = (settings: StoreSettings): string => `
local KEEP, INDEXED = ${settings.eventsPerRun ?? "nil"}, ${String(settings.isIndexed)}
${readingLua(settings)}
local function sessionOf(identity)
  return string.byte(identity, 10) ~= 42 and string.match(identity, '^%w+ (%S+)') or '*'
end

local function unindex(sid, entry, most)
  for _ = 1, most do
    local found = redis.call('XRANGE', P .. 'index', entry, entry)[1]
    if not found then entry = '-' break end
    redis.call('XDEL', P .. 'index', entry)
    if sid ~= '*' then redis.call('XDEL', P .. 'index:' .. sid, entry) end
    entry = string.match(found[2][2], '(%S+)$')
    if entry == '-' then break end
  end
  if entry ~= '-' then redis.call('SADD', P .. 'removed', entry .. ' ' .. sid) end
  if sid ~= '*' and redis.call('XLEN', P .. 'index:' .. sid) == 0 then redis.call('UNLINK', P .. 'index:' .. sid) end
end

local function forget(sid, entry)
  redis.call('UNLINK', KEYS[1], KEYS[2])
  redis.call('ZREM', P .. 'runs', RUN)
  redis.call('ZREM', P .. 'open', RUN)
  redis.call('ZREM', P .. 'ended', RUN)
  redis.call('HDEL', P .. 'remains', RUN)
  if sid ~= '*' then redis.call('ZREM', P .. 'runs:' .. sid, RUN) end
  if entry ~= '-' then unindex(sid, entry, 500) end
end

-- what an expired run left: false where it is no expired run, but an evicted one or none
local function remains(now)
  local left = redis.call('HGET', P .. 'remains', RUN)
  local expires, entry, sid = string.match(left or '', '^(%d+) (%S+) (%S+)$')
  if not expires or tonumber(expires) > tonumber(now) then return false end
  return { sid, entry }
end

-- whether an ended run is past its age, and nobody has removed it yet
local function isExpired(ending, now)
  return ending and AGE and tonumber(redis.call('HGET', KEYS[1], 'at')) + AGE <= tonumber(now)
end

-- trims what is before first, and the index entries of appends that are trimmed whole, but the last one's
local function trim(first, most, sid, edge)
  local cut, trimmed = first, edge
  if INDEXED or edge then
    local last = redis.call('XRANGE', KEYS[2], first - 1, first - 1)[1]
    trimmed = last and last[2][4] or edge
    local old = redis.call('XRANGE', KEYS[2], '-', first - 1, 'COUNT', most)
    local dead = {}
    if edge and edge ~= '-' and edge ~= trimmed then dead[edge] = true end
    for i = 1, #old do
      local entry = old[i][2][4]
      if entry and entry ~= '-' and entry ~= trimmed then dead[entry] = true end
    end
    for entry in pairs(dead) do
      redis.call('XDEL', P .. 'index', entry)
      if sid ~= '*' then redis.call('XDEL', P .. 'index:' .. sid, entry) end
    end
    if #old == most then cut = tonumber(string.match(old[most][1], '^%d+')) + 1 end
  end
  redis.call('XTRIM', KEYS[2], 'MINID', '=', cut)
  return trimmed
end

-- ends a run: version and expiry are those of its lease
local function finish(sid, now, entry, ending, set, version, expiry)
  set[#set + 1] = 'x' set[#set + 1] = ending
  if expiry then set[#set + 1] = 'lv' set[#set + 1] = version + 1 end
  redis.call('ZREM', P .. 'open', RUN)
  redis.call('ZADD', P .. 'ended', now, RUN)
  if AGE then
    redis.call('HSET', P .. 'remains', RUN, string.format('%.0f', now + AGE) .. ' ' .. entry .. ' ' .. sid)
  end
end

-- begins a run; false where keys of an evicted one are left
local function begin(sid, now)
  if redis.call('EXISTS', KEYS[2]) == 1 then return false end
  if redis.call('ZSCORE', P .. 'runs', RUN) then
    local left = remains(now)
    if not left then return false end
    forget(left[1], left[2])
  end
  redis.call('ZADD', P .. 'runs', now, RUN)
  redis.call('ZADD', P .. 'open', now, RUN)
  if sid ~= '*' then redis.call('ZADD', P .. 'runs:' .. sid, now, RUN) end
  return true
end

${settings.isPublished ? publishing(settings.prefix) : ""}
--[[
Appends the records from..from+n-1 of recs. identity, last (0: a new run), largest record, entry in the index before: as
the hash has them; first and edge: where there is retention by count; set: further fields of the hash to write.
Answers "s FIRSTSEQ ENTRY IDENTITY".
]]
local function write(now, identity, last, largest, before, first, edge, recs, from, n, lengths, ending, set, version, expiry)
  local isNew, seq, sid = last == 0, string.format('%d', last + 1), sessionOf(identity)
  if isNew and not begin(sid, now) then return { 'evicted' } end
  local count = n == 1 and '1' or string.format('%d', n)
  local entry = '-'
  if INDEXED then
    local what = RUN .. ' ' .. seq .. ' ' .. count .. ' ' .. (before or '-')
    entry = redis.call('XADD', P .. 'index', '0-*', 'a', what)
    if sid ~= '*' then redis.call('XADD', P .. 'index:' .. sid, entry, 'a', what) end
  end
  if isNew then redis.call('XADD', KEYS[2], seq, 'r', recs[from], 'p', entry)
  elseif not redis.call('XADD', KEYS[2], 'NOMKSTREAM', seq, 'r', recs[from], 'p', entry) then return { 'evicted' } end
  local mx, known = #recs[from], tonumber(largest or 0)
  local bytes = mx
  for i = 1, n - 1 do
    local record = recs[from + i]
    bytes = bytes + #record
    if #record > mx then mx = #record end
    redis.call('XADD', KEYS[2], last + 1 + i, 'r', record, 'p', entry)
  end
  last = last + n
  local at = #set
  set[at + 1], set[at + 2], set[at + 3], set[at + 4] = 'l', n == 1 and seq or string.format('%d', last), 'at', now
  if INDEXED then set[at + 5], set[at + 6] = 'ix', entry
  elseif isNew then set[at + 5], set[at + 6] = 'ix', '-' end
  if mx > known then set[#set + 1] = 'mx' set[#set + 1] = mx end
  if KEEP and last - KEEP + 1 > tonumber(first) then
    edge = trim(last - KEEP + 1, n + 1000, sid, edge)
    set[#set + 1] = 'f' set[#set + 1] = string.format('%d', last - KEEP + 1)
    if edge then set[#set + 1] = 'tp' set[#set + 1] = edge end
  end
  if ending then finish(sid, now, entry, ending, set, version, expiry) end
  redis.call('HSET', KEYS[1], unpack(set))
  if ending then
    redis.call('HDEL', KEYS[1], 'le', 'w', 'we')
    if AGE then
      redis.call('PEXPIRE', KEYS[1], AGE)
      redis.call('PEXPIRE', KEYS[2], AGE)
    end
  end${
    settings.isPublished
      ? `
  publish(recs, from, n, bytes, '1 ' .. seq .. ' ' .. count .. ' ' .. entry .. ' 0 ' .. RUN .. ' ' .. identity .. '\\n' .. lengths .. '\\n')`
      : ""
  }
  return 's ' .. seq .. ' ' .. entry .. ' ' .. identity
end
`
