/** One page of a replay over the index of appends: a script, and what its answer says. */
import type { EncodedEnvelope } from "@throughline/core/Envelope"
import { RunId } from "@throughline/core/Envelope"
import { CorruptRecord, StoreBroken } from "@throughline/core/EventStoreError"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as RedisKeys from "../RedisKeys.ts"
import * as RedisScript from "../RedisScript.ts"
import * as eventRecord from "./eventRecord.ts"
import * as answers from "./storeAnswers.ts"
import * as position from "./position.ts"
import * as storeScripts from "./storeScripts.ts"

/** Where a replay looks, and how far. */
export interface Request {
  readonly prefix: string
  /** All positions up to here have been looked at. */
  readonly after: number
  /** The number of the last index entry to look at; `undefined`: the last there is. */
  readonly until: number | undefined
  readonly maxEvents: number
  readonly maxBytes: number
  /** Milliseconds; `undefined`: the server's clock. */
  readonly now: number | undefined
  /** Only these, unless there are none. */
  readonly runIds: ReadonlyArray<string>
  readonly sessionIds: ReadonlyArray<string>
}

/**
 * Index entries that a page passes over at most, and those that it looks up the run and the events of: a millisecond or two
 * of Redis each, in which nobody else is served.
 */
const maxPassed = 1000
const maxLookedUp = 250

/** The last position of the entries up to one. */
export const endOf = (entry: number): number => entry * position.perAppend + position.perAppend - 1

/**
 * A page of the events after a position, in the order of the index, with the runs they are of.
 *
 * Runs that were removed or are past their age are passed over. One that was evicted, and an event that isn't there, end
 * the page before them, or are the answer.
 *
 * KEYS: 1 the index, 2 the index to go by: the same, or a session's. ARGV: 1 prefix, 2 prefix of the keys that span runs, 3 entry to start at,
 * 4 events of it to leave out, 5 last entry or '', 6 events, 7 bytes, 8 entries, 9 now in ms or '' for the server's time, 10 number of
 * runs; then the runs, and the sessions
 */
export const script = RedisScript.make({
  name: "replay",
  readOnly: true,
  lua: `
local P, SHARED, NOW = ARGV[1], ARGV[2], ARGV[9]
local from, offset = tonumber(ARGV[3]), tonumber(ARGV[4])
local left, room = tonumber(ARGV[6]), tonumber(ARGV[7])

local final, length = 0, 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'length' then length = info[i + 1] end
    if info[i] == 'last-generated-id' then
      final = tonumber(string.match(info[i + 1], '^0%-(%d+)$'))
      if not final then return { 'foreign', info[i + 1] } end
    end
  end
end
if length == 0 and redis.call('ZCARD', SHARED .. 'runs') > 0 then return { 'unindexed' } end
local till = tonumber(ARGV[5]) or final
if till > final or from > final + 1 or (from == final + 1 and offset > 0) then return { 'beyond', final } end

local function number(entry)
  return tonumber(string.match(entry or '', '^0%-(%d+)$'))
end

-- whether the run ended so long ago that Redis was told to expire it
local function isExpired(run)
  local expires = string.match(redis.call('HGET', SHARED .. 'remains', run) or '', '^(%d+)')
  if not expires then return false end
  if NOW == '' then
    local t = redis.call('TIME')
    NOW = t[1] .. string.sub('00000' .. t[2], -6, -4)
  end
  return tonumber(expires) <= tonumber(NOW)
end

-- whether there should be something of a run that has no hash
local function isEvicted(run)
  if redis.call('EXISTS', P .. '{' .. run .. '}:e') == 1 then return true end
  return redis.call('ZSCORE', SHARED .. 'runs', run) and not isExpired(run)
end

-- runs say where their first and last events are
local wanted, runs, high = tonumber(ARGV[10]), {}, till
if wanted > 0 then
  local low
  high = 0
  for i = 11, 10 + wanted do
    local run = ARGV[i]
    local key = P .. '{' .. run .. '}'
    local h = redis.call('HMGET', key, 'i', 'ix', 'tp')
    runs[run] = true
    if h[1] then
      local oldest = h[3] or ((redis.call('XRANGE', key .. ':e', '-', '+', 'COUNT', 1)[1] or {})[2] or {})[4]
      low, high = math.min(low or till, number(oldest) or from), math.max(high, number(h[2]) or till)
    elseif isEvicted(run) then low, high = from, till end
  end
  if not low then return { 'page', till, -1, 0, {}, {} } end
  if low > from then from, offset = low, 0 end
  high = math.min(high, till)
end

local sessions, hasSessions = {}, #ARGV > 10 + wanted
for i = 11 + wanted, #ARGV do sessions[ARGV[i]] = true end

-- false: no run of this replay; a text: why there is none though there should be
local function headOf(run)
  local h = redis.call('HMGET', P .. '{' .. run .. '}', 'z', 'i', 'f', 'l', 'mx', 'tp', 'x')
  if h[2] then
    if h[1] ~= '1' or not string.match(h[2], '^%w+ %S+ %-?%d+ "') then return 'head' end
    if hasSessions and not sessions[string.match(h[2], '^%S+ (%S+)')] then return false end
    -- Redis expires it by the server's clock
    if h[7] and NOW ~= '' and isExpired(run) then return false end
    return h
  end
  if not isEvicted(run) then return false end
  local isMeant = not hasSessions
  for session in pairs(sessions) do
    isMeant = isMeant or redis.call('ZSCORE', SHARED .. 'runs:' .. session, run)
  end
  return isMeant and 'evicted'
end

local heads, named, told, out, taken = {}, {}, {}, {}, 0

local function nameOf(run, h)
  if not named[run] then
    named[run] = string.format('%d', #told)
    told[#told + 1], told[#told + 2] = run, h[2]
  end
  return named[run]
end

local parsed, ahead, spare, upTo, lookedUp = {}, {}, room, {}, 0

-- an event, read together with those of its run that the page may come to; they too have a bound, as many runs do so
local function eventAt(run, h, seq)
  local read = ahead[run]
  if not read or seq < read[1] or seq > read[2] then
    local last = math.min(upTo[run], tonumber(h[4]), seq + left - 1, seq + math.floor(spare / tonumber(h[5] or 1)) - 1)
    if last < seq then last = seq end
    read = { seq, last, redis.call('XRANGE', P .. '{' .. run .. '}:e', seq, last) }
    for _, event in ipairs(read[3]) do spare = spare - #(event[2][2]) end
    ahead[run] = read
  end
  local event = read[3][seq - read[1] + 1]
  return event and event[1] == string.format('%d-0', seq) and event[2]
end

-- the events of one entry; answers where to go on where not all of them fit, and why if that can't be
local function take(entry, n, run, h, first, count, skip)
  if type(h) == 'string' then return skip, { h, run } end
  local oldest = tonumber(h[3])
  -- told at the place of the last trimmed event: there every reader comes by that is before it
  if h[6] == entry and oldest - 1 >= first + skip then
    out[#out + 1] = 't ' .. nameOf(run, h) .. ' ' .. string.format('%d', oldest - 1)
  end
  local seq, header = math.max(first + skip, oldest), #out + 1
  local begin, last, refusal = seq, math.min(first + count - 1, tonumber(h[4])), nil
  while seq <= last and left > 0 do
    local fields = eventAt(run, h, seq)
    if not fields then
      refusal = { 'missing', run, seq }
      break
    end
    local isOurs = fields[1] == 'r' and fields[3] == 'p'
    -- an entry counts only for events that name it
    if isOurs and fields[4] ~= entry then
      last = seq - 1
      break
    end
    local record = isOurs and fields[2] or ''
    if #record > room and taken > 0 then break end
    out[header + seq - begin + 1] = record
    seq, left, room, taken = seq + 1, left - 1, room - #record, taken + 1
  end
  if seq > begin then
    out[header] = 'e ' .. nameOf(run, h) .. ' ' .. n .. ' ' .. string.format('%d %d %d', begin - first, begin, seq - begin)
  end
  if seq <= last then return seq - first, refusal end
end

local window = redis.call('XRANGE', KEYS[2], '0-' .. string.format('%.0f', from), '0-' .. string.format('%.0f', high),
  'COUNT', ARGV[8])
for i = 1, #window do
  local fields = window[i][2]
  local run, first, count = string.match(fields[1] == 'a' and fields[2] or '', '^(%S+) (%d+) (%d+) %S+$')
  if run and (wanted == 0 or runs[run]) then
    parsed[i] = { run, tonumber(first), tonumber(count) }
    upTo[run] = math.max(upTo[run] or 0, first + count - 1)
  else parsed[i] = run end
end
for i = 1, #window do
  local entry, p = window[i][1], parsed[i]
  local n, rest, refusal = string.sub(entry, 3), nil, nil
  local skip = tonumber(n) == from and offset or 0
  if not p then rest, refusal = skip, { 'foreign', entry }
  elseif type(p) == 'table' then
    local run = p[1]
    lookedUp = lookedUp + 1
    if lookedUp > ${maxLookedUp} then return { 'page', till, tonumber(n), 0, told, out } end
    if heads[run] == nil then heads[run] = headOf(run) end
    if heads[run] then rest, refusal = take(entry, n, run, heads[run], p[2], p[3], skip) end
  end
  if rest then
    if refusal and #out == 0 then return refusal end
    return { 'page', till, tonumber(n), rest, told, out }
  end
end
if #window < tonumber(ARGV[8]) then return { 'page', till, -1, 0, told, out } end
return { 'page', till, tonumber(string.sub(window[#window][1], 3)) + 1, 0, told, out }
`,
  keys: ({ prefix, sessionIds }: Request) => [
    RedisKeys.index(prefix),
    RedisKeys.index(prefix, sessionIds.length === 1 ? sessionIds[0] : undefined),
  ],
  args: ({ after, maxBytes, maxEvents, now, prefix, runIds, sessionIds, until }) => [
    prefix,
    RedisKeys.shared(prefix),
    position.entryOf(after + 1).slice(2),
    String(position.offsetOf(after + 1)),
    until === undefined ? "" : String(until),
    String(maxEvents),
    String(maxBytes),
    String(runIds.length > 0 ? maxPassed : Math.min(maxLookedUp, maxEvents)),
    now === undefined ? "" : String(now),
    String(runIds.length),
    ...runIds,
    ...sessionIds,
  ],
  reply: Schema.Union([
    /** The last entry of the replay, where to go on (entry, -1: nowhere; events of it to leave out), runs, events. */
    Schema.Tuple([
      Schema.Literal("page"),
      Schema.Int,
      Schema.Int,
      Schema.Int,
      Schema.Array(Schema.String),
      Schema.Array(Schema.String),
    ]),
    Schema.Tuple([Schema.Literal("beyond"), Schema.Int]),
    Schema.Tuple([Schema.Literals(["foreign", "evicted", "head"]), Schema.String]),
    Schema.Tuple([Schema.Literal("missing"), Schema.String, Schema.Int]),
    Schema.Tuple([Schema.Literal("unindexed")]),
  ]),
})

type Answer = ReturnType<typeof script.decode> extends Result.Result<infer A, unknown> ? A : never

/** An event with its place and its run's generation, or history that was trimmed. */
export type Found =
  | {
      readonly _tag: "Event"
      readonly position: number
      readonly generation: string
      readonly envelope: EncodedEnvelope
    }
  | { readonly _tag: "Truncated"; readonly runId: RunId; readonly to: number }

export interface Page {
  readonly _tag: "Page"
  readonly found: ReadonlyArray<Found>
  /** All positions up to here have been looked at. */
  readonly reached: number
  /** The last index entry of the replay. */
  readonly until: number
}

/** The store ends before the cursor: at this index entry. */
export interface Beyond {
  readonly _tag: "Beyond"
  readonly end: number
}

const broken = (detail: string) => Result.fail(new StoreBroken({ detail }))

const badHead = (runId: string | undefined) => broken(`the head of run ${runId} can't be decoded`)

const isRunId = Schema.is(RunId)

/** What the envelopes of a run need from it, by its id and identity. */
const runAt = (
  runs: ReadonlyArray<string>,
  at: number,
): Result.Result<eventRecord.Run & { readonly generation: string }, StoreBroken> => {
  const runId = runs[at]
  const identity = storeScripts.parseIdentity(runs[at + 1] ?? "")
  if (!isRunId(runId) || identity === undefined) return badHead(runId)
  const { generation, sessionId, vocabulary } = identity
  return Result.succeed({ runId, sessionId, schemaVersion: vocabulary.version, generation })
}

const header = /^(?:t (\d+) (\d+)|e (\d+) (\d+) (\d+) (\d+) (\d+))$/

/** What a page's runs and items say; up to what can't be decoded, which is the failure where nothing is before it. */
const foundIn = (
  runs: ReadonlyArray<string>,
  items: ReadonlyArray<string>,
): Result.Result<
  { readonly found: ReadonlyArray<Found>; readonly stoppedAt?: number },
  CorruptRecord | StoreBroken
> => {
  const found: Array<Found> = []
  for (let at = 0; at < items.length;) {
    const match = header.exec(items[at++]!)
    if (match === null) return broken("a page of the index can't be decoded")
    const run = runAt(runs, Number(match[1] ?? match[3]))
    if (Result.isFailure(run)) return Result.fail(run.failure)
    const { generation, runId } = run.success
    if (match[1] !== undefined) {
      found.push({ _tag: "Truncated", runId, to: Number(match[2]) })
      continue
    }
    const [entry, offset, firstSeq, count] = [Number(match[4]), Number(match[5]), Number(match[6]), Number(match[7])]
    const firstPosition = entry * position.perAppend + offset
    for (let index = 0; index < count; index++) {
      const seq = firstSeq + index
      const envelope = eventRecord.decode(items[at++]!, seq, run.success)
      if (Result.isSuccess(envelope)) {
        found.push({ _tag: "Event", position: firstPosition + index, generation, envelope: envelope.success })
        continue
      }
      return found.length > 0
        ? Result.succeed({ found, stoppedAt: firstPosition + index })
        : Result.fail(new CorruptRecord({ runId, seq, problem: envelope.failure }))
    }
  }
  return Result.succeed({ found })
}

/** There are runs, and no entry in the index. */
const unindexed = new StoreBroken({
  detail:
    "there is no index of its runs: they were written with `index: false`, or Redis evicted it; without one there is no archive",
})

const missing = "it is missing: evicted by Redis, or deleted by hand"

/** The page in the script's answer. */
export const pageOf = (answer: Answer): Result.Result<Page | Beyond, CorruptRecord | StoreBroken> => {
  switch (answer[0]) {
    case "page": {
      const [, until, entry, offset, runs, items] = answer
      return Result.map(foundIn(runs, items), ({ found, stoppedAt }): Page => {
        if (stoppedAt !== undefined) return { _tag: "Page", found, until, reached: stoppedAt - 1 }
        const reached = entry === -1 ? endOf(until) : entry * position.perAppend + offset - 1
        return { _tag: "Page", found, until, reached }
      })
    }
    case "beyond":
      return Result.succeed({ _tag: "Beyond", end: endOf(answer[1]) })
    case "missing":
      return isRunId(answer[1])
        ? Result.fail(new CorruptRecord({ runId: answer[1], seq: answer[2], problem: missing }))
        : badHead(answer[1])
    case "evicted":
      return isRunId(answer[1]) ? Result.fail(answers.evicted(answer[1])) : badHead(answer[1])
    case "head":
      return badHead(answer[1])
    case "foreign":
      return broken(`entry ${answer[1]} of the index is none of this store's`)
    case "unindexed":
      return Result.fail(unindexed)
  }
}
