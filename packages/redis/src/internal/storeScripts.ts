/** The scripts of the event store: each is one atomic step on one run. */
import { Ending } from "@throughline/core/Envelope"
import * as Schema from "effect/Schema"
import * as RedisKeys from "../RedisKeys.ts"
import * as RedisScript from "../RedisScript.ts"
import * as storeLua from "./storeLua.ts"

/** A run's place in Redis. */
export interface RunKeys {
  readonly prefix: string
  readonly runId: string
}

/** What every writing script is told. */
export interface Writing extends RunKeys {
  /** Milliseconds; `undefined`: the server's clock. */
  readonly now: number | undefined
  /** Milliseconds. */
  readonly ageAfterEnd: number | undefined
  readonly eventsPerRun: number | undefined
  readonly isIndexed: boolean
  readonly channel: string | undefined
}

const keys = ({ prefix, runId }: RunKeys) => [RedisKeys.run(prefix, runId), RedisKeys.events(prefix, runId)]

const text = (value: number | string | undefined): string => (value === undefined ? "" : String(value))

const writingArgs = (writing: Writing): Array<string> => [
  RedisKeys.shared(writing.prefix),
  writing.runId,
  text(writing.now),
  text(writing.ageAfterEnd),
  text(writing.eventsPerRun),
  writing.isIndexed ? "1" : "",
  text(writing.channel),
]

const Stored = Schema.Tuple([
  Schema.Literal("stored"),
  /** Generation, session or "", vocabulary as "VERSION NAME". */
  Schema.String,
  Schema.String,
  Schema.String,
  /** First seq; position of the last event, 0 where appends aren't indexed. */
  Schema.Int,
  Schema.Int,
])
const Evicted = Schema.Tuple([Schema.Literal("evicted")])
const Ended = Schema.Tuple([Schema.Literal("ended"), Schema.NumberFromString, Ending])
const Conflict = Schema.Tuple([Schema.Literal("conflict"), Schema.NumberFromString])

/** The request of {@link append}; `undefined` where the caller gave none. */
export interface Append extends Writing {
  readonly generation: string
  readonly sessionId: string | undefined
  readonly vocabulary: string
  readonly expectedSeq: number | undefined
  readonly ending: string | undefined
  readonly producer: { readonly id: string; readonly epoch: number; readonly number: number } | undefined
  /** A repeat writes the producer's state again, so that `WAIT` has something to wait for. */
  readonly rewritesRepeats: boolean
  /** Milliseconds. */
  readonly leaseTtl: number | undefined
  readonly will: { readonly record: string; readonly ending: string } | undefined
  readonly lengths: string
  readonly records: ReadonlyArray<string>
}

/**
 * Appends, or says why not: the checks are those of core's `AppendRules`, in its order.
 *
 * ARGV: 8 generation of a new run, 9 session, 10 vocabulary, 11 expected seq, 12 ending, 13 producer, 14 epoch, 15 number,
 * 16 '1' where repeats are written again, 17 ms of the lease, 18 will, 19 the will's ending, 20 lengths of the records,
 * 21… the records. '' stands for none.
 */
export const append = RedisScript.make({
  name: "append",
  lua: `${storeLua.lua}
local FIRST = 21
local n, sid, pid = #ARGV - FIRST + 1, ARGV[9], ARGV[13]
local now = time()
local h = load('p:' .. pid)
local known = h[1]
if known and isExpired(h, now) then
  forget(h[2] or '', h[11] or '0')
  known, h = false, {}
end

local function repeated(a, b)
  local kept, position = math.max(a, tonumber(h[4])), 0
  if b - a + 1 ~= n or (sid ~= '' and sid ~= (h[2] or '')) then return { 'mismatch' } end
  if kept <= b then
    local stored = redis.call('XRANGE', KEYS[2], kept, b)
    if #stored ~= b - kept + 1 then return { 'evicted' } end
    for i = 1, #stored do
      if stored[i][2][2] ~= ARGV[FIRST + kept - a + i - 1] then return { 'mismatch' } end
    end
    position = tonumber(stored[1][2][4] or 0)
  end
  if ARGV[16] == '1' then redis.call('HSET', KEYS[1], 'p:' .. pid, h[13]) end
  return { 'repeated', h[1], h[2] or '', h[3], a, position, kept }
end

if pid ~= '' then
  local epoch, number, last = tonumber(ARGV[14]), tonumber(ARGV[15]), 0
  if known and h[13] then
    local storedEpoch, storedNumber, a, b = string.match(h[13], '^(%d+) (%d+) (%d+) (%d+)$')
    if not storedEpoch then return { 'producer' } end
    if epoch < tonumber(storedEpoch) then return { 'fenced', storedEpoch } end
    if epoch == tonumber(storedEpoch) then
      last = tonumber(storedNumber)
      if number == last then return repeated(tonumber(a), tonumber(b)) end
      if number < last then return { 'stale', storedNumber } end
    end
  end
  if known and h[6] then return { 'ended', h[5], h[6] } end
  if number ~= last + 1 then return { 'gap', last + 1 } end
end
if known and h[6] then return { 'ended', h[5], h[6] } end
if ARGV[11] ~= '' and tonumber(ARGV[11]) ~= tonumber(known and h[5] or 0) then
  return { 'conflict', known and h[5] or '0' }
end
if known and sid ~= '' and sid ~= (h[2] or '') then return { 'session', h[2] or '' } end
if known and ARGV[10] ~= h[3] then return { 'vocabulary', h[3] } end

local set = {}
if not known then
  h = { ARGV[8], sid ~= '' and sid, ARGV[10], '1', '0' }
  set = { 'z', '1', 'g', ARGV[8], 'v', ARGV[10], 'f', '1', 'st', now }
  if sid ~= '' then set[11], set[12] = 's', sid end
end
local ttl = tonumber(ARGV[17])
if ttl or ARGV[12] ~= '' then set[#set + 1] = 'lv' set[#set + 1] = leaseVersion(h, ttl, ARGV[12]) end
if ttl then
  set[#set + 1] = 'le' set[#set + 1] = now + ttl
  if ARGV[18] ~= '' then
    set[#set + 1] = 'w' set[#set + 1] = ARGV[18]
    set[#set + 1] = 'we' set[#set + 1] = ARGV[19]
  end
end
if pid ~= '' then
  local first = tonumber(h[5]) + 1
  set[#set + 1] = 'p:' .. pid
  set[#set + 1] = ARGV[14] .. ' ' .. ARGV[15] .. ' ' .. text(first) .. ' ' .. text(first + n - 1)
end
return write(h, not known, now, ARGV, FIRST, n, ARGV[20], ARGV[12], set)
`,
  keys,
  args: (request: Append) => {
    const { producer, will } = request
    const args = writingArgs(request)
    args.push(
      request.generation,
      text(request.sessionId),
      request.vocabulary,
      text(request.expectedSeq),
      text(request.ending),
      text(producer?.id),
      text(producer?.epoch),
      text(producer?.number),
      request.rewritesRepeats ? "1" : "",
      text(request.leaseTtl),
      text(will?.record),
      text(will?.ending),
      request.lengths,
    )
    for (const record of request.records) args.push(record)
    return args
  },
  reply: Schema.Union([
    Stored,
    Schema.Tuple([
      Schema.Literal("repeated"),
      Schema.String,
      Schema.String,
      Schema.String,
      Schema.Int,
      /** Position of the append's last event, 0 where it has none; the first seq that is still stored. */
      Schema.Int,
      Schema.Int,
    ]),
    Schema.Tuple([Schema.Literals(["mismatch", "evicted", "producer"])]),
    Schema.Tuple([Schema.Literal("fenced"), Schema.NumberFromString]),
    Schema.Tuple([Schema.Literal("stale"), Schema.NumberFromString]),
    Schema.Tuple([Schema.Literal("gap"), Schema.Int]),
    Ended,
    Conflict,
    Schema.Tuple([Schema.Literals(["session", "vocabulary"]), Schema.String]),
  ]),
})

/** ARGV: 8 lease version, 9 expected seq. The record of the will is the last of the answer. */
export const appendWill = RedisScript.make({
  name: "appendWill",
  lua: `${storeLua.lua}
local now = time()
local h = load('w')
if not h[1] or isExpired(h, now) then return { 'noLease' } end
if h[6] then return { 'ended', h[5], h[6] } end
if not h[9] then return { 'noLease' } end
if tonumber(ARGV[8]) ~= tonumber(h[8]) then return { 'renewed' } end
if tonumber(h[9]) > now then return { 'notExpired' } end
if tonumber(ARGV[9]) ~= tonumber(h[5]) then return { 'conflict', h[5] } end
if not h[13] then return { 'noWill' } end
local ending = redis.call('HGET', KEYS[1], 'we')
local answer = write(h, false, now, { h[13] }, 1, 1, '', ending, { 'lv', leaseVersion(h, nil, ending) })
if answer[1] == 'stored' then answer[7] = h[13] end
return answer
`,
  keys,
  args: (request: Writing & { readonly leaseVersion: number; readonly expectedSeq: number }) => [
    ...writingArgs(request),
    String(request.leaseVersion),
    String(request.expectedSeq),
  ],
  reply: Schema.Union([
    Schema.Tuple([...Stored.elements, Schema.String]),
    Evicted,
    Ended,
    Conflict,
    Schema.Tuple([Schema.Literals(["noLease", "noWill", "renewed", "notExpired"])]),
  ]),
})

/** Ends a run that is abandoned. ARGV: 8 ms that it must have been idle, 9 record, 10 ending. */
export const endAbandoned = RedisScript.make({
  name: "endAbandoned",
  lua: `${storeLua.lua}
local now = time()
local h = load('st')
if not h[1] or h[6] or tonumber(h[8] or 0) > 0 or tonumber(h[7]) > now - tonumber(ARGV[8]) then return { 'alive' } end
return write(h, false, now, ARGV, 9, 1, '', ARGV[10], {})
`,
  keys,
  args: (request: Writing & { readonly idleFor: number; readonly record: string; readonly ending: string }) => [
    ...writingArgs(request),
    String(request.idleFor),
    request.record,
    request.ending,
  ],
  reply: Schema.Union([Stored, Evicted, Schema.Tuple([Schema.Literal("alive")])]),
})

/** Extends the lease of an open run. ARGV: 8 ms, 9 will or '', 10 its ending. Answers whether the run is open. */
export const renew = RedisScript.make({
  name: "renew",
  lua: `${storeLua.lua}
local h = load('st')
if not h[1] or h[6] then return 0 end
redis.call('HSET', KEYS[1], 'lv', leaseVersion(h, true, ''), 'le', time() + tonumber(ARGV[8]))
if ARGV[9] ~= '' then redis.call('HSET', KEYS[1], 'w', ARGV[9], 'we', ARGV[10]) end
return 1
`,
  keys,
  args: (
    request: Writing & { readonly leaseTtl: number; readonly will: { record: string; ending: string } | undefined },
  ) => [...writingArgs(request), String(request.leaseTtl), text(request.will?.record), text(request.will?.ending)],
  reply: Schema.Literals([0, 1]),
})

/**
 * Removes a run and its place in every index. ARGV: 8 '1': only if it has ended and is past its age. Answers whether there
 * was one.
 */
export const remove = RedisScript.make({
  name: "remove",
  lua: `${storeLua.lua}
local now = time()
local h = load('st')
if h[1] then
  local old = isExpired(h, now)
  if ARGV[8] == '1' and not old then return 0 end
  forget(h[2] or '', h[11] or '0')
  return old and 0 or 1
end
local left = remains(now)
if left then
  forget(left[1], left[2])
  return 0
end
local evicted = redis.call('EXISTS', KEYS[2]) == 1 or redis.call('ZSCORE', P .. 'runs', RUN)
if not evicted or ARGV[8] == '1' then return 0 end
forget('', '0')
return 1
`,
  keys,
  args: (request: Writing & { readonly onlyExpired: boolean }) => [
    ...writingArgs(request),
    request.onlyExpired ? "1" : "",
  ],
  reply: Schema.Literals([0, 1]),
})

/** Takes a bounded number of index entries of removed runs out of the index; answers how many runs are left to do. */
export const reclaim = RedisScript.make({
  name: "reclaim",
  lua: `${storeLua.lua}
local left = redis.call('SPOP', P .. 'removed')
if not left then return 0 end
local at, sid = string.match(left, '^(%d+) (.*)$')
if at then unindex(sid, at, 500) end
return redis.call('SCARD', P .. 'removed')
`,
  keys: () => [],
  args: (request: Writing) => writingArgs(request),
  reply: Schema.Int,
})

const Text = Schema.NullOr(Schema.String)

/** The fields of a run's head in the order that {@link read} gives them. */
export const Head = Schema.Tuple([
  /** Format, generation, session, vocabulary, first seq, last seq, ending. */
  Schema.Literal("1"),
  Schema.String,
  Text,
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

/**
 * A run's head and a page after a seq: ids and records, one after the other. What is no record of ours is `""`.
 *
 * The page is bounded by bytes before it is read: the head knows the largest record. Where one is much larger than the
 * rest, the range is read in parts.
 *
 * ARGV: 1 prefix of the keys that span runs, 2 run, 3 now or '', 4 ms that an ended run is kept or '', 5 after, 6 limit,
 * 7 bytes
 */
export const read = RedisScript.make({
  name: "read",
  readOnly: true,
  lua: `
local h = redis.call('HMGET', KEYS[1], 'z', 'g', 's', 'v', 'f', 'l', 'x', 'st', 'at', 'lv', 'le', 'mx')
local function time()
  if ARGV[3] ~= '' then return tonumber(ARGV[3]) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
if not h[2] then
  if redis.call('EXISTS', KEYS[2]) == 1 then return { 'evicted' } end
  if not redis.call('ZSCORE', ARGV[1] .. 'runs', ARGV[2]) then return { 'unknown' } end
  local expires = string.match(redis.call('HGET', ARGV[1] .. 'remains', ARGV[2]) or '', '^(%d+)')
  if expires and tonumber(expires) <= time() then return { 'unknown' } end
  return { 'evicted' }
end
if h[7] and ARGV[4] ~= '' and tonumber(h[9]) + tonumber(ARGV[4]) <= time() then return { 'unknown' } end
local largest = tonumber(h[12] or 1)
h[12] = h[11] and redis.call('HEXISTS', KEYS[1], 'w') or 0
local page, size = {}, 0
local seq, left, room = tonumber(ARGV[5]) + 1, tonumber(ARGV[6]), tonumber(ARGV[7])
if seq > tonumber(h[6]) or seq < tonumber(h[5]) then left = 0 end
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
  args: (
    request: Pick<Writing, "prefix" | "runId" | "now" | "ageAfterEnd"> & {
      readonly after: number
      readonly limit: number
      readonly maxBytes: number
    },
  ) => [
    RedisKeys.shared(request.prefix),
    request.runId,
    text(request.now),
    text(request.ageAfterEnd),
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
