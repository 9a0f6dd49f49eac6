/**
 * The Lua that writes runs: what writing scripts are put together from.
 *
 * A script validates all before its first write, as Redis keeps what a failing script wrote: where a run begins and where
 * it ends, also that the user may do all that an append can come to. Of the writes, the one that a full Redis or a replica
 * refuses comes first; and what can fail after it (a foreign key in the place of one of ours) leaves an index entry that no
 * event names, which readers skip. What an append can do without, trimming and publishing, is allowed to fail.
 *
 * A script is one round trip, but each call in it and each argument costs about as much as a tenth of a round trip. So what
 * never changes within a store is part of the text, what is always read together is one field, and what is rarely needed is
 * read where it is. Making a Lua function costs as much as a call, so what every append does is text that is put in, and
 * only the rare steps are functions; making a string costs by its bytes, as all of them are hashed.
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

/** A key that spans runs, as a Lua expression. */
export const sharedKey = ({ prefix }: StoreSettings, name: string): string => literal(shared(prefix) + name)

/**
 * The server's clock in ms, unless `ARGV[1]` is one; as text, like every number that is only passed on: Lua's numbers are
 * floats, and printing one takes longer than adding an entry.
 */
export const nowLua = `
local now = ARGV[1]
if now == '' then
  local t = redis.call('TIME')
  now = t[1] .. string.sub('00000' .. t[2], -6, -4)
end
`

/** The run's id, what the first key has in braces, as a Lua expression. */
export const runLua = ({ prefix }: StoreSettings): string =>
  `string.sub(KEYS[1], ${new TextEncoder().encode(prefix).length + 2}, -2)`

/** The session of `identity`, as a Lua expression. */
export const sessionLua = `(string.byte(identity, 10) ~= 42 and string.match(identity, '^%w+ (%S+)') or '*')`

/** Whether the run, ended by `ending`, is past its age, and nobody has removed it yet; as a Lua expression. */
export const isExpiredLua = ({ ageAfterEnd }: StoreSettings, ending: string): string =>
  ageAfterEnd === undefined
    ? "false"
    : `(${ending} and tonumber(redis.call('HGET', KEYS[1], 'at')) + ${ageAfterEnd} <= tonumber(now))`

/** The commands that an append may need after its first write, as Lua strings. */
const needed = ({ ageAfterEnd, eventsPerRun }: StoreSettings): string =>
  ["XADD", "HSET", "HDEL", "ZADD", "ZREM"]
    .concat(ageAfterEnd === undefined ? [] : ["PEXPIRE"], eventsPerRun === undefined ? [] : ["XRANGE", "XDEL", "XTRIM"])
    .map((command) => `'${command}'`)
    .join(", ")

/**
 * What writing scripts begin with: the steps that few of them take.
 *
 * KEYS: 1 the run's hash, 2 its stream. ARGV: 1 now in ms or '' for the server's time
 *
 * A run's identity `i` is `GENERATION SESSION VERSION "VOCABULARY"`, with `*` for no session: no id has that.
 */
export const writingLua = (settings: StoreSettings): string => {
  const key = (name: string): string => sharedKey(settings, name)
  return `
local function rarely()
  local RUN = ${runLua(settings)}
  local rare = {}

  -- the first command that the user may not use; for that alone a run would be left half written
  function rare.lacking()
    for _, command in ipairs({ ${needed(settings)} }) do
      if not redis.acl_check_cmd(command, KEYS[1], '1', '1', '1') then return command end
    end
  end

  function rare.unindex(sid, entry, most)
    for _ = 1, most do
      local found = redis.call('XRANGE', ${key("index")}, entry, entry)[1]
      if not found then entry = '-' break end
      redis.call('XDEL', ${key("index")}, entry)
      if sid ~= '*' then redis.call('XDEL', ${key("index:")} .. sid, entry) end
      entry = string.match(found[2][2], '(%S+)$')
      if entry == '-' then break end
    end
    if entry ~= '-' then redis.call('SADD', ${key("removed")}, entry .. ' ' .. sid) end
    local own = ${key("index:")} .. sid
    if sid ~= '*' and redis.call('XLEN', own) == 0 then redis.call('UNLINK', own) end
  end

  function rare.forget(sid, entry)
    redis.call('UNLINK', KEYS[1], KEYS[2])
    redis.call('ZREM', ${key("runs")}, RUN)
    redis.call('ZREM', ${key("open")}, RUN)
    redis.call('ZREM', ${key("ended")}, RUN)
    redis.call('HDEL', ${key("remains")}, RUN)
    if sid ~= '*' then redis.call('ZREM', ${key("runs:")} .. sid, RUN) end
    if entry ~= '-' then rare.unindex(sid, entry, 500) end
  end

  -- what an ended run of which the keys are gone left; with a time, only where they have expired by then
  function rare.remains(now)
    local left = redis.call('HGET', ${key("remains")}, RUN)
    local expires, entry, sid = string.match(left or '', '^(%d+) (%S+) (%S+)$')
    if not expires or (now and tonumber(expires) > tonumber(now)) then return false end
    return { sid, entry }
  end

  -- trims what is before first, and the index entries of appends that are trimmed whole, but the last one's
  function rare.trim(first, most, sid, edge)
    local cut, trimmed = first, edge
    if ${String(settings.isIndexed)} or edge then
      local last = redis.pcall('XRANGE', KEYS[2], first - 1, first - 1)[1]
      trimmed = last and last[2][4] or edge
      local old = redis.pcall('XRANGE', KEYS[2], '-', first - 1, 'COUNT', most)
      local dead = {}
      if edge and edge ~= '-' and edge ~= trimmed then dead[edge] = true end
      for i = 1, #old do
        local entry = old[i][2][4]
        if entry and entry ~= '-' and entry ~= trimmed then dead[entry] = true end
      end
      for entry in pairs(dead) do
        redis.pcall('XDEL', ${key("index")}, entry)
        if sid ~= '*' then redis.pcall('XDEL', ${key("index:")} .. sid, entry) end
      end
      if #old == most then cut = tonumber(string.match(old[most][1], '^%d+')) + 1 end
    end
    redis.pcall('XTRIM', KEYS[2], 'MINID', '=', cut)
    return trimmed
  end

  -- begins a run; false where keys of an evicted one are left
  function rare.begin(sid, now)
    if redis.call('EXISTS', KEYS[2]) == 1 then return false end
    if redis.call('ZSCORE', ${key("runs")}, RUN) then
      local left = rare.remains(now)
      if not left then return false end
      rare.forget(left[1], left[2])
    end
    redis.call('ZADD', ${key("runs")}, now, RUN)
    redis.call('ZADD', ${key("open")}, now, RUN)
    if sid ~= '*' then redis.call('ZADD', ${key("runs:")} .. sid, now, RUN) end
    return true
  end

  return rare
end
`
}

/**
 * Publishes the records to the run's room. It is asked first who listens: that takes a third of the instructions of a
 * small message to nobody, and replicas are sent every message. What is too large for a message is told by one that has
 * nothing in it. A publish that fails (a user without the right to the channel) must not fail the append, which is done by
 * then.
 */
const publishing = ({ prefix }: StoreSettings): string => `
local room = ${literal(runChannel(prefix))} .. RUN
if redis.pcall('PUBSUB', 'NUMSUB', room)[2] == 0 then
elseif bytes > ${mostBytes} then redis.pcall('PUBLISH', room, '${unread}')
else
  local header = '1 ' .. seq .. ' ' .. count .. ' ' .. entry .. ' 0 ' .. RUN .. ' ' .. identity .. '\\n'
  if n == 1 then redis.pcall('PUBLISH', room, header .. '\\n' .. recs[from])
  else
    -- in one piece, as every byte of every piece is hashed
    local parts = { header, lengths, '\\n' }
    for i = 1, n do parts[i + 3] = recs[from + i - 1] end
    redis.pcall('PUBLISH', room, table.concat(parts))
  end
end
`

/** The variables that {@link appendingLua} takes, none of them set. */
export const appendingVariables = `
local identity, last, largest, before, first, edge, state, ending, version, expiry
local recs, from, n, lengths, by, set = nil, 1, 1, nil, nil, nil
`

/**
 * Appends `n` records from `recs[from]` on, and sets `answer` to "s FIRSTSEQ ENTRY IDENTITY", or returns `{ 'evicted' }`.
 *
 * It takes `now`; `identity`, `last` (0: a new run), `largest` record, entry in the index `before`, as the hash has them;
 * `first` and `edge` where there is retention by count; the `lengths` of more records; `by` and `state`, the producer's
 * field and its epoch and number; the `ending` where it ends the run, with `version` and `expiry` of its lease; `set`,
 * further fields of the hash to write.
 */
export const appendingLua = (settings: StoreSettings): string => {
  const { ageAfterEnd, eventsPerRun, isIndexed, isPublished } = settings
  const key = (name: string): string => sharedKey(settings, name)
  const index = `
local what = RUN .. ' ' .. seq .. ' ' .. count .. ' ' .. (before or '-')
entry = call('XADD', ${key("index")}, '0-*', 'a', what)
if sid ~= '*' then call('XADD', ${key("index:")} .. sid, entry, 'a', what) end`
  const place = isIndexed ? ", 'ix', entry" : ""
  const trim = `
if last + n - ${eventsPerRun} + 1 > tonumber(first or 1) then
  first = last + n - ${eventsPerRun} + 1
  edge, set = rarely().trim(first, n + 1000, sid, edge), set or {}
  set[#set + 1] = 'f' set[#set + 1] = string.format('%d', first)
  if edge then set[#set + 1] = 'tp' set[#set + 1] = edge end
end`
  return `
local call = redis.call
local RUN, sid = ${runLua(settings)}, ${sessionLua}
local seq = string.format('%d', last + 1)
local count, final, entry = '1', seq, '-'
if n > 1 then count, final = string.format('%d', n), string.format('%d', last + n) end
if last == 0 or ending then
  local rare = rarely()
  local lacking = rare.lacking()
  if lacking then return redis.error_reply('NOPERM the user of this store may not use ' .. lacking) end
  if last == 0 and not rare.begin(sid, now) then return { 'evicted' } end
end
${isIndexed ? index : ""}
if last == 0 then call('XADD', KEYS[2], seq, 'r', recs[from], 'p', entry)
elseif not call('XADD', KEYS[2], 'NOMKSTREAM', seq, 'r', recs[from], 'p', entry) then return { 'evicted' } end
local mx = #recs[from]
local bytes = mx
if n > 1 then
  local events, format, tens, digit = KEYS[2], string.format, string.sub(seq, 1, -2), (last + 1) % 10
  local digits = { '1', '2', '3', '4', '5', '6', '7', '8', '9', [0] = '0' }
  for i = 1, n - 1 do
    local record = recs[from + i]
    bytes = bytes + #record
    if #record > mx then mx = #record end
    digit = digit + 1
    -- printing a number takes longer than the rest of this loop
    if digit == 10 then digit, tens = 0, format('%d', (last + 1 + i) / 10) end
    call('XADD', events, tens .. digits[digit], 'r', record, 'p', entry)
  end
end
if by then state = state .. ' ' .. seq .. ' ' .. final end
if mx > tonumber(largest or 0) then
  set = set or {}
  set[#set + 1] = 'mx' set[#set + 1] = mx
end
${eventsPerRun === undefined ? "" : trim}
if ending then
  set = set or {}
  set[#set + 1] = 'x' set[#set + 1] = ending
  if expiry then set[#set + 1] = 'lv' set[#set + 1] = version + 1 end
  call('ZREM', ${key("open")}, RUN)
  call('ZADD', ${key("ended")}, now, RUN)
  ${ageAfterEnd === undefined ? "" : `call('HSET', ${key("remains")}, RUN, string.format('%.0f', now + ${ageAfterEnd}) .. ' ' .. entry .. ' ' .. sid)`}
end
${isIndexed ? "" : "if last == 0 then set[#set + 1] = 'ix' set[#set + 1] = '-' end"}
if set then
  if by then set[#set + 1] = by set[#set + 1] = state end
  call('HSET', KEYS[1], 'l', final, 'at', now${place}, unpack(set))
elseif by then
  call('HSET', KEYS[1], 'l', final, 'at', now${place}, by, state)
else
  call('HSET', KEYS[1], 'l', final, 'at', now${place})
end
if ending then
  call('HDEL', KEYS[1], 'le', 'w', 'we')
  ${ageAfterEnd === undefined ? "" : `call('PEXPIRE', KEYS[1], ${ageAfterEnd}) call('PEXPIRE', KEYS[2], ${ageAfterEnd})`}
end
${isPublished ? publishing(settings) : ""}
local answer = 's ' .. seq .. ' ' .. entry .. ' ' .. identity
`
}
