/** The scripts of the event store: each is one atomic step on one run. */
import { generationPattern } from "@throughline/core/Cursor"
import { Ending, SessionId } from "@throughline/core/Envelope"
import type { VocabularyId } from "@throughline/core/Vocabulary"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { lengthsOf } from "../RedisFrame.ts"
import * as RedisKeys from "../RedisKeys.ts"
import * as RedisScript from "../RedisScript.ts"
import * as storeLua from "./storeLua.ts"

/** What every script on a run is told. */
export interface OnRun {
  readonly runId: string
  /** Milliseconds; `undefined`: the server's clock. */
  readonly now: number | undefined
}

const text = (value: number | string | undefined): string => (value === undefined ? "" : String(value))

/** A session and a vocabulary as a run's identity has them. */
export const identityOf = (sessionId: string | undefined, vocabulary: VocabularyId): string =>
  `${sessionId ?? "*"} ${vocabulary.version} ${JSON.stringify(vocabulary.name)}`

export interface Identity {
  readonly generation: string
  readonly sessionId: SessionId | undefined
  readonly vocabulary: VocabularyId
}

const vocabularyPattern = /^(-?\d+) (".+")$/s
const identityPattern = /^(\S+) (\S+) (-?\d+ ".+")$/s
const isSessionId = Schema.is(SessionId)

/** Reads `VERSION "NAME"`. */
export const parseVocabulary = (stored: string): VocabularyId | undefined => {
  const match = vocabularyPattern.exec(stored)
  if (match === null) return undefined
  try {
    return { name: JSON.parse(match[2]!) as string, version: Number(match[1]) }
  } catch {
    return undefined
  }
}

let lastIdentity: readonly [string, Identity] | undefined

/** Reads a run's identity; the answers of a busy run all have the same one. */
export const parseIdentity = (stored: string): Identity | undefined => {
  if (lastIdentity?.[0] === stored) return lastIdentity[1]
  const match = identityPattern.exec(stored)
  const vocabulary = match === null ? undefined : parseVocabulary(match[3]!)
  if (match === null || vocabulary === undefined || !generationPattern.test(match[1]!)) return undefined
  const sessionId = match[2] === "*" ? undefined : match[2]
  if (sessionId !== undefined && !isSessionId(sessionId)) return undefined
  const identity = { generation: match[1]!, sessionId, vocabulary }
  lastIdentity = [stored, identity]
  return identity
}

/** What a script stored, or had stored. */
export interface Stored extends Identity {
  readonly firstSeq: number
  /** The append's entry in the index; `-`: it has none. */
  readonly entry: string
  /** Of a repeated append: the first seq that is still stored. */
  readonly keptFrom: number | undefined
}

const storedPattern = /^(?:s|r (\d+)) (\d+) (-|0-\d+) /

/** Reads `s FIRSTSEQ ENTRY IDENTITY` or `r KEPTFROM FIRSTSEQ ENTRY IDENTITY`. */
export const parseStored = (reply: string): Result.Result<Stored, string> => {
  const match = storedPattern.exec(reply)
  const identity = match === null ? undefined : parseIdentity(reply.slice(match[0].length))
  if (match === null || identity === undefined) return Result.fail(`"${reply.slice(0, 100)}" is no answer to an append`)
  return Result.succeed({
    ...identity,
    firstSeq: Number(match[2]),
    entry: match[3]!,
    keptFrom: match[1] === undefined ? undefined : Number(match[1]),
  })
}

const Evicted = Schema.Tuple([Schema.Literal("evicted")])
const Ended = Schema.Tuple([Schema.Literal("ended"), Schema.NumberFromString, Ending])
/** The head's seq and generation; '': there is no run. */
const Conflict = Schema.Tuple([Schema.Literal("conflict"), Schema.NumberFromString, Schema.String])

/** The request of an append; `undefined` where the caller gave none. */
export interface Append extends OnRun {
  readonly generation: string
  readonly identity: string
  readonly producer: { readonly id: string; readonly epoch: number; readonly number: number } | undefined
  /** The run cursor, or the bare seq, that the head must be at. */
  readonly expected: string | undefined
  readonly ending: string | undefined
  /** Milliseconds. */
  readonly leaseTtl: number | undefined
  readonly will: { readonly record: string; readonly ending: string } | undefined
  readonly records: ReadonlyArray<string>
}

const appendArgs = (request: Append): Array<string> => {
  const { ending, expected, generation, leaseTtl, producer, records, will } = request
  const lengths = lengthsOf(records)
  const isPlain =
    lengths === "" && generation === "" && ending === undefined && expected === undefined && leaseTtl === undefined
  const args = [
    text(request.now),
    request.identity,
    text(producer?.id),
    text(producer?.epoch),
    text(producer?.number),
    isPlain ? "" : "1",
  ]
  if (!isPlain) {
    args.push(lengths, generation, text(expected), text(ending), text(leaseTtl), text(will?.record))
    args.push(text(will?.ending))
  }
  for (const record of records) args.push(record)
  return args
}

/** The fields of a run's head in the order that `read` gives them. */
const Head = Schema.Tuple([
  /** Format, identity, first seq, last seq, ending. */
  Schema.Literal("1"),
  Schema.String,
  Schema.NumberFromString,
  Schema.NumberFromString,
  Schema.NullOr(Ending),
  /** Started at, last activity, lease version, lease expiry; 1: there is a will. */
  Schema.NumberFromString,
  Schema.NumberFromString,
  Schema.NullOr(Schema.NumberFromString),
  Schema.NullOr(Schema.NumberFromString),
  Schema.Literals([0, 1]),
])
export type Head = typeof Head.Type

export const make = (settings: storeLua.StoreSettings) => {
  const { prefix } = settings
  const keys = ({ runId }: OnRun) => [RedisKeys.run(prefix, runId), RedisKeys.events(prefix, runId)]
  const rare = storeLua.writingLua(settings)
  const appending = storeLua.appendingLua(settings)
  const isExpired = (ending: string): string => storeLua.isExpiredLua(settings, ending)
  const sharedKey = (name: string): string => storeLua.sharedKey(settings, name)
  const trimmed = settings.eventsPerRun === undefined ? "" : ", 'f', 'tp'"

  /** What of the identities, stored and given, a difference can be in. */
  const differing = `local sid, vocabulary = string.match(string.sub(identity, 10), '^(%S+) (.*)$')
  local givenSid, givenVocabulary = string.match(ARGV[2], '^(%S+) (.*)$')`

  /** Answers a repeated append of the seqs from a to b. */
  const repeated = `
        a, b = tonumber(a), tonumber(b)
        local kept, entry = math.max(a, tonumber(redis.call('HGET', KEYS[1], 'f'))), '-'
        ${differing}
        if b - a + 1 ~= n or (givenSid ~= '*' and givenSid ~= sid) then return { 'mismatch' } end
        if kept <= b then
          local stored = redis.call('XRANGE', KEYS[2], kept, b)
          if #stored ~= b - kept + 1 then return { 'evicted' } end
          for i = 1, #stored do
            if stored[i][2][2] ~= ARGV[from + kept - a + i - 1] then return { 'mismatch' } end
          end
          entry = stored[1][2][4]
        end
        ${settings.rewritesRepeats ? "redis.call('HSET', KEYS[1], by, produced)" : ""}
        return 'r ' .. string.format('%d %d', kept, a) .. ' ' .. entry .. ' ' .. identity`

  /**
   * Appends, or says why not: the checks are those of core's `AppendRules`, in its order.
   *
   * ARGV: 2 the run's identity without its generation, 3 producer or '', 4 epoch, 5 number, 6 '1' where seven options
   * follow, '' for none: lengths of the records, generation of a new run (none: to be told that it is new), expected
   * run cursor or seq, ending, ms of the lease, will, the will's ending; then the records
   */
  const append = RedisScript.make({
    name: "append",
    lua: `${rare}${storeLua.nowLua}${storeLua.appendingVariables}
local pid, expected, ttl, will, generation = ARGV[3], nil, nil, nil, ''
recs, from = ARGV, 7
if ARGV[6] ~= '' then
  from, lengths, generation, expected, ttl = 14, ARGV[7], ARGV[8], ARGV[9] ~= '' and ARGV[9], tonumber(ARGV[11])
  ending, will = ARGV[10] ~= '' and ARGV[10], ARGV[12] ~= '' and ARGV[12]
end
n = #ARGV - from + 1
if pid ~= '' then by, state = 'p:' .. pid, ARGV[4] .. ' ' .. ARGV[5] end
local h = redis.call('HMGET', KEYS[1], 'i', 'l', 'x', 'mx', 'ix', by or 'p:'${trimmed})
if ${isExpired("h[3]")} then
  identity = h[1]
  rarely().forget(${storeLua.sessionLua}, h[5])
  h = {}
end
local isEnded, produced = h[3], h[6]
identity, last, largest, before, first, edge = h[1], tonumber(h[2] or 0), h[4], h[5], h[7], h[8]

if by then
  local number, counted = tonumber(ARGV[5]), 0
  if produced then
    local epoch, storedEpoch, storedNumber, a, b = tonumber(ARGV[4]), string.match(produced, '^(%d+) (%d+) (%d+) (%d+)$')
    if not storedEpoch then return { 'producer' } end
    if epoch < tonumber(storedEpoch) then return { 'fenced', storedEpoch } end
    if epoch == tonumber(storedEpoch) then
      counted = tonumber(storedNumber)
      if number == counted then ${repeated} end
      if number < counted then return { 'stale', storedNumber } end
    end
  end
  if isEnded then return { 'ended', h[2], isEnded } end
  if number ~= counted + 1 then return { 'gap', counted + 1 } end
end
if isEnded then return { 'ended', h[2], isEnded } end
if expected then
  local seq, expectedGeneration = string.match(expected, '^(%d+)-?(.*)$')
  local current = identity and string.sub(identity, 1, 8) or ''
  if tonumber(seq) ~= last or (expectedGeneration ~= '' and expectedGeneration ~= current) then
    return { 'conflict', h[2] or '0', current }
  end
end
if not identity then
  if generation == '' then return { 'new' } end
  identity = generation .. ' ' .. ARGV[2]
  set = { 'z', '1', 'i', identity, 'f', '1', 'st', now }
elseif string.sub(identity, 10) ~= ARGV[2] then
  ${differing}
  if givenSid ~= '*' and givenSid ~= sid then return { 'session', sid } end
  if givenVocabulary ~= vocabulary then return { 'vocabulary', vocabulary } end
end

if ttl or ending then
  local lease = redis.call('HMGET', KEYS[1], 'lv', 'le')
  version, expiry = tonumber(lease[1] or 0), lease[2]
  if ttl then
    version, expiry, set = version + 1, now + ttl, set or {}
    for _, field in ipairs({ 'lv', version, 'le', expiry }) do set[#set + 1] = field end
    if will then for _, field in ipairs({ 'w', will, 'we', ARGV[13] }) do set[#set + 1] = field end end
  end
end
${appending}
return answer
`,
    keys,
    args: appendArgs,
    reply: Schema.Union([
      Schema.String,
      Schema.Tuple([Schema.Literals(["mismatch", "producer", "new"])]),
      Evicted,
      Schema.Tuple([Schema.Literal("fenced"), Schema.NumberFromString]),
      Schema.Tuple([Schema.Literal("stale"), Schema.NumberFromString]),
      Schema.Tuple([Schema.Literal("gap"), Schema.Int]),
      Ended,
      Conflict,
      Schema.Tuple([Schema.Literals(["session", "vocabulary"]), Schema.String]),
    ]),
  })

  /** ARGV: 2 lease version, 3 expected seq. Answers with the will's record beside what was stored. */
  const appendWill = RedisScript.make({
    name: "appendWill",
    lua: `${rare}${storeLua.nowLua}${storeLua.appendingVariables}
local h = redis.call('HMGET', KEYS[1], 'i', 'l', 'x', 'mx', 'ix', 'lv', 'le', 'w', 'we', 'f', 'tp')
if not h[1] or ${isExpired("h[3]")} then return { 'noLease' } end
if h[3] then return { 'ended', h[2], h[3] } end
if not h[7] then return { 'noLease' } end
if tonumber(ARGV[2]) ~= tonumber(h[6]) then return { 'renewed' } end
if tonumber(h[7]) > tonumber(now) then return { 'notExpired' } end
if tonumber(ARGV[3]) ~= tonumber(h[2]) then return { 'conflict', h[2], string.sub(h[1], 1, 8) } end
if not h[8] then return { 'noWill' } end
identity, last, largest, before, first, edge = h[1], tonumber(h[2]), h[4], h[5], h[10], h[11]
recs, ending, version, expiry = { h[8] }, h[9], tonumber(h[6]), h[7]
${appending}
return { 'stored', answer, h[8] }
`,
    keys,
    args: (request: OnRun & { readonly leaseVersion: number; readonly expectedSeq: number }) => [
      text(request.now),
      String(request.leaseVersion),
      String(request.expectedSeq),
    ],
    reply: Schema.Union([
      Schema.Tuple([Schema.Literal("stored"), Schema.String, Schema.String]),
      Evicted,
      Ended,
      Conflict,
      Schema.Tuple([Schema.Literals(["noLease", "noWill", "renewed", "notExpired"])]),
    ]),
  })

  /** Ends a run that is abandoned. ARGV: 2 ms that it must have been idle, 3 record, 4 ending. */
  const endAbandoned = RedisScript.make({
    name: "endAbandoned",
    lua: `${rare}${storeLua.nowLua}${storeLua.appendingVariables}
local h = redis.call('HMGET', KEYS[1], 'i', 'l', 'x', 'mx', 'ix', 'lv', 'at', 'f', 'tp')
if not h[1] or h[3] or tonumber(h[6] or 0) > 0 or tonumber(h[7]) > now - tonumber(ARGV[2]) then return { 'alive' } end
identity, last, largest, before, first, edge = h[1], tonumber(h[2]), h[4], h[5], h[8], h[9]
recs, from, ending = ARGV, 3, ARGV[4]
${appending}
return answer
`,
    keys,
    args: (request: OnRun & { readonly idleFor: number; readonly record: string; readonly ending: string }) => [
      text(request.now),
      String(request.idleFor),
      request.record,
      request.ending,
    ],
    reply: Schema.Union([Schema.String, Evicted, Schema.Tuple([Schema.Literal("alive")])]),
  })

  /** Extends the lease of an open run. ARGV: 2 ms, 3 will or '', 4 its ending. Answers whether the run is open. */
  const renew = RedisScript.make({
    name: "renew",
    lua: `${storeLua.nowLua}
local h = redis.call('HMGET', KEYS[1], 'i', 'x', 'lv')
if not h[1] or h[2] then return 0 end
redis.call('HSET', KEYS[1], 'lv', tonumber(h[3] or 0) + 1, 'le', now + tonumber(ARGV[2]))
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'w', ARGV[3], 'we', ARGV[4]) end
return 1
`,
    keys,
    args: (request: OnRun & Pick<Append, "will"> & { readonly leaseTtl: number }) => [
      text(request.now),
      String(request.leaseTtl),
      text(request.will?.record),
      text(request.will?.ending),
    ],
    reply: Schema.Literals([0, 1]),
  })

  /** Removes a run and its place in every index. Answers whether there was one. */
  const remove = RedisScript.make({
    name: "remove",
    lua: `${rare}${storeLua.nowLua}
local rare, h = rarely(), redis.call('HMGET', KEYS[1], 'i', 'x', 'ix')
local identity = h[1]
if identity then
  local old = ${isExpired("h[2]")}
  rare.forget(${storeLua.sessionLua}, h[3])
  return old and 0 or 1
end
local hasExpired, left = rare.remains(now), rare.remains()
local isEvicted = not hasExpired and (left or redis.call('EXISTS', KEYS[2]) == 1 or redis.call('ZSCORE', ${sharedKey("runs")}, ${storeLua.runLua(settings)}))
if left or isEvicted then rare.forget(left and left[1] or '*', left and left[2] or '-') end
return isEvicted and 1 or 0
`,
    keys,
    args: (request: OnRun) => [text(request.now)],
    reply: Schema.Literals([0, 1]),
  })

  /** Removes what is left of a run that ended longer ago than its age; answers whether it did. */
  const expire = RedisScript.make({
    name: "expire",
    lua: `${rare}${storeLua.nowLua}
local rare, h = rarely(), redis.call('HMGET', KEYS[1], 'i', 'x', 'ix')
local identity = h[1]
if identity then
  if not ${isExpired("h[2]")} then return 0 end
  rare.forget(${storeLua.sessionLua}, h[3])
else
  local left = rare.remains()
  rare.forget(left and left[1] or '*', left and left[2] or '-')
end
return 1
`,
    keys,
    args: (request: OnRun) => [text(request.now)],
    reply: Schema.Literals([0, 1]),
  })

  /** Takes a bounded number of entries of removed runs out of the index; answers how many runs are left to do. */
  const reclaim = RedisScript.make({
    name: "reclaim",
    lua: `${rare}
local entry, sid = string.match(redis.call('SPOP', KEYS[1]) or '', '^(%S+) (%S+)$')
if entry then rarely().unindex(sid, entry, 500) end
return redis.call('SCARD', KEYS[1])
`,
    keys: () => [RedisKeys.removed(prefix)],
    args: () => [],
    reply: Schema.Int,
  })

  const expiredPage =
    settings.ageAfterEnd === undefined
      ? ""
      : `if h[5] then ${storeLua.nowLua}
  if tonumber(h[7]) + ${settings.ageAfterEnd} <= tonumber(now) then return { 'unknown' } end
end`

  /**
   * A run's head and a page after a seq: ids and records, one after the other. What is no record of ours is `""`.
   *
   * The page is bounded by bytes before it is read: the head knows the largest record. Where one is much larger than the
   * rest, the range is read in parts.
   *
   * ARGV: 2 after, 3 limit, 4 bytes
   */
  const read = RedisScript.make({
    name: "read",
    readOnly: true,
    lua: `
local h = redis.call('HMGET', KEYS[1], 'z', 'i', 'f', 'l', 'x', 'st', 'at', 'lv', 'le', 'mx')
if not h[2] then
  local RUN = ${storeLua.runLua(settings)}
  if redis.call('EXISTS', KEYS[2]) == 1 then return { 'evicted' } end
  if not redis.call('ZSCORE', ${sharedKey("runs")}, RUN) then return { 'unknown' } end
  local expires = string.match(redis.call('HGET', ${sharedKey("remains")}, RUN) or '', '^(%d+)')
  ${storeLua.nowLua}
  if expires and tonumber(expires) <= tonumber(now) then return { 'unknown' } end
  return { 'evicted' }
end
${expiredPage}
local largest = tonumber(h[10] or 1)
h[10] = h[9] and redis.call('HEXISTS', KEYS[1], 'w') or 0
local page, size = {}, 0
local seq, left, room = tonumber(ARGV[2]) + 1, tonumber(ARGV[3]), tonumber(ARGV[4])
if seq > tonumber(h[4]) or seq < tonumber(h[3]) then left = 0 end
while left > 0 do
  local fits = math.floor(room / largest)
  if fits < 1 and size == 0 then fits = 1 end
  if fits < 1 or (size > 0 and fits < 8 and fits < left) then break end
  local count = math.min(left, fits)
  local entries = redis.call('XRANGE', KEYS[2], seq, '+', 'COUNT', count)
  for i = 1, #entries do
    local fields = entries[i][2]
    local record = fields[1] == 'r' and fields[2] or ''
    page[size + 1], page[size + 2] = entries[i][1], record
    size = size + 2
    room = room - #record
  end
  if #entries < count then break end
  seq, left = seq + count, left - count
end
return { 'run', h, page }
`,
    keys,
    args: (request: OnRun & { readonly after: number; readonly limit: number; readonly maxBytes: number }) => [
      text(request.now),
      String(request.after),
      String(request.limit),
      String(request.maxBytes),
    ],
    reply: Schema.Union([
      Schema.Tuple([Schema.Literal("run"), Head, Schema.Array(Schema.String)]),
      Schema.Tuple([Schema.Literal("unknown")]),
      Evicted,
    ]),
  })

  return { append, appendWill, endAbandoned, renew, remove, expire, reclaim, read }
}

/**
 * Ids and scores of a page of runs, last started first.
 *
 * KEYS: 1 the sorted set. ARGV: 1 limit, 2 and 3 the run to continue after and its score, or '' and ''
 */
export const list = RedisScript.make({
  name: "runs",
  readOnly: true,
  lua: `
local start, run, score = 0, ARGV[2], ARGV[3]
if run ~= '' then
  local rank = redis.call('ZREVRANK', KEYS[1], run)
  if rank and tonumber(redis.call('ZSCORE', KEYS[1], run)) == tonumber(score) then start = rank + 1
  else
    -- it was removed since: after what started later, and what started with it and sorts before it
    start = redis.call('ZCOUNT', KEYS[1], '(' .. score, '+inf')
    local ties = redis.call('ZREVRANGEBYSCORE', KEYS[1], score, score)
    for i = 1, #ties do
      if ties[i] < run then break end
      start = start + 1
    end
  end
end
return redis.call('ZREVRANGE', KEYS[1], start, start + tonumber(ARGV[1]) - 1, 'WITHSCORES')
`,
  keys: ({ key }: { readonly key: string }) => [key],
  args: (request: {
    readonly key: string
    readonly limit: number
    readonly before: { readonly runId: string; readonly startedAt: number } | undefined
  }) => [String(request.limit), text(request.before?.runId), text(request.before?.startedAt)],
  reply: Schema.Array(Schema.String),
})
