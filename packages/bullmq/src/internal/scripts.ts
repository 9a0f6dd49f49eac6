/** The scripts of the engine that are not BullMQ's: each is one atomic step, with BullMQ's Lua as functions in it. */
import * as RedisScript from "@throughline/redis/RedisScript"
import * as Schema from "effect/Schema"
import { concludeLua, functionLua, sharedLua } from "./lua.ts"
import { Row } from "./record.ts"

/** What every script is told first. */
export interface Scope {
  /** The prefix in braces. */
  readonly root: string
  readonly maxResults: number
}

const Integer = Schema.Union([Schema.Int, Schema.NumberFromString])

/** Which job of which name, in which state, with what in its hash. */
const Found = Schema.Tuple([Schema.String, Schema.String, Schema.String, Row])
export type Found = typeof Found.Type

/** The jobs that were claimed, and the time of the next delayed one, 0 for none. */
const Claimed = Schema.Tuple([Integer, Schema.Array(Schema.Tuple([Schema.String, Schema.String, Schema.String, Row]))])

const Page = Schema.Struct({
  generation: Schema.String,
  trimmed: Schema.NumberFromString,
  last: Schema.NumberFromString,
  entries: Schema.Array(Schema.Tuple([Schema.String, Schema.Array(Schema.String)])),
})

const PageReply = Schema.Tuple([Page.fields.generation, Page.fields.trimmed, Page.fields.last, Page.fields.entries])

/** A name that may be claimed, and how many of it. */
interface Claimable {
  readonly name: string
  readonly limit: number
}

/** A job that is in none of BullMQ's lists, after its crash was counted: ready again, dead, or cancelled. */
const crashedLua = `
local function crashed(root, name, id, now, tooMany, max)
  local base = root .. ':' .. name .. ':'
  local values = call('HMGET', base .. id, 'priority', 'stc', 'tl', 'tl:failures', 'tl:cancel')
  local kept = cjson.decode(values[3])
  local failures = values[4] or '[]'
  local failed = #cjson.decode(failures)
  if values[5] then
    conclude(root, name, id, now, 'cancelled', 'cancelled', failed, '', kept.keepResult, max)
    return 'cancelled'
  end
  if tonumber(values[2]) < tonumber(tooMany) then
    call('ZADD', base .. 'prioritized', tonumber(values[1]) * 4294967296, id)
    place(base, id)
    return 'waiting'
  end
  local failure = '{"_tag":"WorkerCrashed","at":' .. now .. ',"crashes":' .. values[2] .. '}'
  local all = failed == 0 and '[' .. failure .. ']' or string.sub(failures, 1, -2) .. ',' .. failure .. ']'
  call('HSET', base .. id, 'tl:failures', all)
  local reason = 'WorkerCrashed: ' .. values[2] .. ' times'
  conclude(root, name, id, now, reason, 'dead', failed + 1, failure, kept.keepDead, max)
  return 'dead'
end
`

export interface ClaimRequest {
  readonly now: number
  /** In ms. */
  readonly lockDuration: number
  /** The token of the i-th job is `TOKEN:i`. */
  readonly token: string
  readonly count: number
  readonly names: ReadonlyArray<Claimable>
  /** The tokens of claims whose answer never came: what they took is given back first. */
  readonly abandoned: ReadonlyArray<string>
}

/** Who holds which job. */
export interface Held {
  readonly name: string
  readonly id: string
  readonly token: string
}

/** What became of a lock: `held`; `cancel`: held, and its job is to stop; `lost`. */
const Renewed = Schema.Literals(["held", "cancel", "lost"])

/** Delayed jobs of one name that are made ready in one script, at most; more are in the next. */
const mostPromoted = 1000

export const make = ({ maxResults, root }: Scope, bullmq: ReadonlyMap<string, string>) => {
  const lua = (name: string): string => bullmq.get(name)!
  const keys = () => [`${root}::names`]
  const conclude = concludeLua(lua("moveToFinished"))

  return {
    /**
     * Claims jobs of several names: of each the one that BullMQ would give, the first of them in the order of the port.
     *
     * ARGV: 1 root, 2 now, 3 lock duration, 4 token, 5 count, 6 abandoned tokens, then name and limit of each
     */
    claim: RedisScript.make({
      name: "claim jobs",
      keys,
      args: (request: ClaimRequest) => [
        root,
        String(request.now),
        String(request.lockDuration),
        request.token,
        String(request.count),
        request.abandoned.join(","),
        ...request.names.flatMap(({ limit, name }) => [name, String(limit)]),
      ],
      reply: Claimed,
      lua: `${sharedLua}
${functionLua("moveToActive", lua("moveToActive"))}
${functionLua("giveBack", lua("moveJobFromActiveToWait"))}
local root, now, lock, token, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local queues, abandoned = {}, {}
for each in string.gmatch(ARGV[6], '[^,]+') do abandoned[each] = true end
for i = 7, #ARGV, 2 do
  local base = root .. ':' .. ARGV[i] .. ':'
  queues[#queues + 1] = { name = ARGV[i], base = base, left = tonumber(ARGV[i + 1]),
    keys = { base .. 'wait', base .. 'active', base .. 'prioritized', base .. 'events', base .. 'stalled', base .. 'limiter',
      base .. 'none', base .. 'paused', base .. 'meta', base .. 'pc', base .. 'marker' } }
  if ARGV[6] ~= '' then
    for _, id in ipairs(call('LRANGE', base .. 'active', 0, -1)) do
      local held = call('GET', base .. id .. ':lock')
      if held and abandoned[string.match(held, '^(.*):')] then
        giveBack({ base .. 'active', base .. 'wait', base .. 'stalled', base .. 'paused', base .. 'meta', base .. 'limiter',
          base .. 'prioritized', base .. 'marker', base .. 'events' }, { id, held, base .. id })
        place(base, id)
      end
    end
  end
end
-- Makes the delayed jobs ready whose time has come. BullMQ would count their places; so it is told of no delayed jobs.
local function promote(base)
  local due = call('ZRANGEBYSCORE', base .. 'delayed', '-inf', (tonumber(now) + 1) * 4096 - 1, 'LIMIT', 0, ${mostPromoted})
  for _, id in ipairs(due) do
    call('ZREM', base .. 'delayed', id)
    call('ZADD', base .. 'prioritized', (tonumber(call('HGET', base .. id, 'priority') or 0) or 0) * 4294967296, id)
    place(base, id)
    call('HSET', base .. id, 'delay', '0')
    call('XADD', base .. 'events', '*', 'event', 'waiting', 'jobId', id, 'prev', 'delayed')
  end
  if #due > 0 then call('ZADD', base .. 'marker', 0, '0') end
  return #due
end
-- The place in the order of the job that a queue would give: priority, ready at, id.
local function peek(queue)
  local base = queue.base
  local wait = call('LINDEX', base .. 'wait', -1)
  if wait then
    queue.rank, queue.id = 0, wait
    return
  end
  local first = call('ZRANGE', base .. 'prioritized', 0, 0, 'WITHSCORES')
  queue.id, queue.rank = first[1], tonumber(first[2])
end
local function before(a, b)
  if a.rank ~= b.rank then return a.rank < b.rank end
  return a.id < b.id
end
local single = #queues == 1
local claimed, nextAt = {}, 0
for _, queue in ipairs(queues) do
  if promote(queue.base) == ${mostPromoted} then nextAt = tonumber(now) end
  if not single then peek(queue) end
end
while #claimed < count do
  local best
  for _, queue in ipairs(queues) do
    if queue.left > 0 and (single or queue.rank) and (not best or before(queue, best)) then best = queue end
  end
  if not best then break end
  local mine = token .. ':' .. #claimed
  local got = moveToActive(best.keys, { best.base, now, cmsgpack.pack({ token = mine, lockDuration = lock }) })
  if type(got[1]) == 'table' then
    claimed[#claimed + 1] = { best.name, got[2], mine, fieldsOf(best.base, got[2]) }
    best.left = best.left - 1
    if not single then peek(best) end
  else
    -- Nothing there after all: it is paused, limited, or its next job is delayed.
    best.left = 0
  end
end
for _, queue in ipairs(queues) do
  local delayed = call('ZRANGE', queue.base .. 'delayed', 0, 0, 'WITHSCORES')
  if delayed[2] then
    local at = math.floor(tonumber(delayed[2]) / 4096)
    if at > tonumber(now) and (nextAt == 0 or at < nextAt) then nextAt = at end
  end
end
return { string.format('%.0f', nextAt), claimed }
`,
    }),

    /** Renews locks; ARGV: 1 root, 2 lock duration, then name, id and token of each. */
    renew: RedisScript.make({
      name: "renew locks",
      keys,
      args: (request: { readonly lockDuration: number; readonly held: ReadonlyArray<Held> }) => [
        root,
        String(request.lockDuration),
        ...request.held.flatMap(({ id, name, token }) => [name, id, token]),
      ],
      reply: Schema.Array(Renewed),
      lua: `
local call = redis.call
local answer = {}
for i = 3, #ARGV, 3 do
  local base, id, token = ARGV[1] .. ':' .. ARGV[i] .. ':', ARGV[i + 1], ARGV[i + 2]
  local key = base .. id
  if call('GET', key .. ':lock') == token then
    call('SET', key .. ':lock', token, 'PX', ARGV[2])
    call('SREM', base .. 'stalled', id)
    answer[#answer + 1] = call('HEXISTS', key, 'tl:cancel') == 1 and 'cancel' or 'held'
  else
    answer[#answer + 1] = 'lost'
  end
end
return answer
`,
    }),

    /**
     * Looks for the jobs of one name whose worker is gone: ready again in the place they had, or settled. Gives the ids of
     * those that settled.
     *
     * ARGV: 1 root, 2 name, 3 now, 4 interval, 5 crashes that are too many, 6 max results
     */
    stalled: RedisScript.make({
      name: "look for crashed workers",
      keys,
      args: (request: {
        readonly name: string
        readonly now: number
        readonly interval: number
        readonly maxCrashes: number
      }) => [
        root,
        request.name,
        String(request.now),
        String(request.interval),
        String(request.maxCrashes),
        String(maxResults),
      ],
      reply: Schema.Array(Schema.String),
      lua: `${sharedLua}${conclude}${crashedLua}
${functionLua("moveStalled", lua("moveStalledJobsToWait"))}
local root, name, now, max = ARGV[1], ARGV[2], ARGV[3], ARGV[6]
local base = root .. ':' .. name .. ':'
local stalled = moveStalled({ base .. 'stalled', base .. 'wait', base .. 'active', base .. 'stalled-check', base .. 'meta',
  base .. 'paused', base .. 'marker', base .. 'events', base .. 'repeat' }, { '1000000000', base, now, ARGV[4] })
local settled = {}
for _, id in ipairs(stalled) do
  -- A job of another program stays where BullMQ put it.
  if call('HEXISTS', base .. id, 'tl') == 1 and call('LREM', base .. 'wait', 1, id) == 1 then
    if crashed(root, name, id, now, ARGV[5], max) ~= 'waiting' then settled[#settled + 1] = id end
  end
end
return settled
`,
    }),

    /**
     * What becomes of a job whose worker crashed in this process, with the lock that it holds; `lost`: it holds none.
     *
     * ARGV: 1 root, 2 name, 3 id, 4 token, 5 now, 6 crashes that are too many, 7 max results
     */
    crash: RedisScript.make({
      name: "note a crash",
      keys,
      args: (request: Held & { readonly now: number; readonly maxCrashes: number }) => [
        root,
        request.name,
        request.id,
        request.token,
        String(request.now),
        String(request.maxCrashes),
        String(maxResults),
      ],
      reply: Schema.Literals(["waiting", "dead", "cancelled", "lost"]),
      lua: `${sharedLua}${conclude}${crashedLua}
local root, name, id = ARGV[1], ARGV[2], ARGV[3]
local base = root .. ':' .. name .. ':'
if call('GET', base .. id .. ':lock') ~= ARGV[4] then return 'lost' end
call('DEL', base .. id .. ':lock')
call('SREM', base .. 'stalled', id)
call('LREM', base .. 'active', 1, id)
call('HINCRBY', base .. id, 'stc', 1)
call('XADD', base .. 'events', '*', 'event', 'stalled', 'jobId', id)
call('ZADD', base .. 'marker', 0, '0')
return crashed(root, name, id, ARGV[5], ARGV[6], ARGV[7])
`,
    }),

    /** Cancels a job that waits, or asks the worker that runs it to; ARGV: 1 root, 2 id, 3 now, 4 max results. */
    cancel: RedisScript.make({
      name: "cancel a job",
      keys,
      args: (request: { readonly id: string; readonly now: number }) => [
        root,
        request.id,
        String(request.now),
        String(maxResults),
      ],
      reply: Schema.Literals(["unknown", "settled", "requested", "cancelled"]),
      lua: `${sharedLua}${conclude}
local root, id, now, max = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local name = nameOf(root, id)
if not name then return 'unknown' end
local base = root .. ':' .. name .. ':'
local state = stateOf(base, id, tonumber(now))
if state == 'running' then
  call('HSET', base .. id, 'tl:cancel', '1')
  call('PUBLISH', root .. '::cancel', id)
  return 'requested'
end
if state ~= 'waiting' and state ~= 'delayed' then return 'settled' end
local removed = call('ZREM', base .. 'prioritized', id) + call('ZREM', base .. 'delayed', id)
if removed == 0 then call('LREM', base .. 'wait', 1, id) call('LREM', base .. 'paused', 1, id) end
local values = call('HMGET', base .. id, 'tl', 'tl:failures')
local kept = values[1] and cjson.decode(values[1]) or { keepResult = 0 }
conclude(root, name, id, now, 'cancelled', 'cancelled', #cjson.decode(values[2] or '[]'), '', kept.keepResult, max)
return 'cancelled'
`,
    }),

    /** Makes a dead job ready again; ARGV: 1 root, 2 id, 3 now. */
    retryDead: RedisScript.make({
      name: "retry a dead job",
      keys,
      args: (request: { readonly id: string; readonly now: number }) => [root, request.id, String(request.now)],
      reply: Schema.Array(Schema.String),
      lua: `${sharedLua}
${functionLua("reprocess", lua("reprocessJob"))}
local root, id, now = ARGV[1], ARGV[2], ARGV[3]
local name = nameOf(root, id)
if not name then return { 'unknown' } end
local base = root .. ':' .. name .. ':'
local state = stateOf(base, id, tonumber(now))
if state ~= 'dead' then return { 'not dead', state } end
local unique = call('HGET', base .. id, 'deid')
if unique then
  local holder = call('GET', base .. 'de:' .. unique)
  if holder and holder ~= id and call('EXISTS', base .. holder) == 1 then return { 'taken', unique, holder } end
  call('SET', base .. 'de:' .. unique, id)
end
reprocess({ base .. id, base .. 'events', base .. 'failed', base .. 'wait', base .. 'meta', base .. 'active', base .. 'marker',
  base .. 'prioritized', base .. 'pc' }, { id, 'LPUSH', 'failedReason', 'failed', '1', '1' })
call('HDEL', base .. id, 'tl:failures', 'tl:cancel', 'tl:by', 'stc', 'stacktrace', 'progress', 'defa')
call('HSET', base .. id, 'tl:readyAt', now)
place(base, id)
call('ZREM', root .. '::expiry', name .. ':' .. id)
return { 'ok' }
`,
    }),

    /** Forgets a dead job; ARGV: 1 root, 2 id, 3 now. */
    removeDead: RedisScript.make({
      name: "remove a dead job",
      keys,
      args: (request: { readonly id: string; readonly now: number }) => [root, request.id, String(request.now)],
      reply: Schema.Array(Schema.String),
      lua: `${sharedLua}
${functionLua("remove", lua("removeJob"))}
local root, id, now = ARGV[1], ARGV[2], ARGV[3]
local name = nameOf(root, id)
if not name then return { 'unknown' } end
local base = root .. ':' .. name .. ':'
local state = stateOf(base, id, tonumber(now))
if state ~= 'dead' then return { 'not dead', state } end
remove({ base .. id, base .. 'repeat' }, { id, '0', base })
call('ZREM', root .. '::expiry', name .. ':' .. id)
call('PUBLISH', root .. '::settled', id)
return { 'ok' }
`,
    }),

    /** Reads jobs; ARGV: 1 root, 2 now, then name ('' for any) and id of each. Those that are not there are left out. */
    read: RedisScript.make({
      name: "read jobs",
      readOnly: true,
      keys,
      args: (request: {
        readonly now: number
        readonly jobs: ReadonlyArray<{ readonly name: string; readonly id: string }>
      }) => [root, String(request.now), ...request.jobs.flatMap(({ id, name }) => [name, id])],
      reply: Schema.Array(Found),
      lua: `${sharedLua}
local found = {}
for i = 3, #ARGV, 2 do
  local name, id = ARGV[i], ARGV[i + 1]
  if name == '' then name = nameOf(ARGV[1], id) end
  if name then
    local base = ARGV[1] .. ':' .. name .. ':'
    local state = stateOf(base, id, tonumber(ARGV[2]))
    if state ~= 'unknown' then found[#found + 1] = { name, id, state, fieldsOf(base, id) } end
  end
end
return found
`,
    }),

    /** Which of some jobs have settled or are gone; ARGV: 1 root, 2 now, then the ids. */
    settledOf: RedisScript.make({
      name: "look for settled jobs",
      readOnly: true,
      keys,
      args: (request: { readonly now: number; readonly ids: ReadonlyArray<string> }) => [
        root,
        String(request.now),
        ...request.ids,
      ],
      reply: Schema.Array(Schema.String),
      lua: `${sharedLua}
local settled = {}
for i = 3, #ARGV do
  local name = nameOf(ARGV[1], ARGV[i])
  local state = name and stateOf(ARGV[1] .. ':' .. name .. ':', ARGV[i], tonumber(ARGV[2]))
  if state ~= 'waiting' and state ~= 'delayed' and state ~= 'running' then settled[#settled + 1] = ARGV[i] end
end
return settled
`,
    }),

    /** Counts jobs by name and state; ARGV: 1 root, 2 now. */
    counts: RedisScript.make({
      name: "count jobs",
      readOnly: true,
      keys,
      args: (request: { readonly now: number }) => [root, String(request.now)],
      reply: Schema.Array(Schema.Tuple([Schema.String, Schema.Array(Schema.Int)])),
      lua: `
local call = redis.call
local answer = {}
for _, name in ipairs(call('SMEMBERS', ARGV[1] .. '::names')) do
  local base = ARGV[1] .. ':' .. name .. ':'
  local due = call('ZCOUNT', base .. 'delayed', '-inf', (tonumber(ARGV[2]) + 1) * 4096 - 1)
  local cancelled = call('ZINTERCARD', 2, base .. 'failed', ARGV[1] .. '::cancelled:' .. name)
  answer[#answer + 1] = { name, {
    call('ZCARD', base .. 'delayed') - due,
    call('ZCARD', base .. 'prioritized') + call('LLEN', base .. 'wait') + call('LLEN', base .. 'paused') + due,
    call('LLEN', base .. 'active'),
    call('ZCARD', base .. 'completed'),
    call('ZCARD', base .. 'failed') - cancelled,
    cancelled } }
end
return answer
`,
    }),

    /** A page of the results log, and where it begins and ends; ARGV: 1 root, 2 name of a new log, 3 after or '', 4 limit. */
    results: RedisScript.make({
      name: "read results",
      keys,
      args: (request: { readonly generation: string; readonly after: number | undefined; readonly limit: number }) => [
        root,
        request.generation,
        request.after === undefined ? "" : String(request.after),
        String(request.limit),
      ],
      reply: PageReply,
      lua: `
local call = redis.call
local key = ARGV[1] .. '::results'
call('SET', ARGV[1] .. '::log', ARGV[2], 'NX')
local generation = call('GET', ARGV[1] .. '::log')
if call('EXISTS', key) == 0 then return { generation, '0', '0', {} } end
local info, last, first = call('XINFO', 'STREAM', key), '0', nil
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = string.match(info[i + 1], '%-(%d+)$') end
  if info[i] == 'first-entry' and info[i + 1] then first = string.match(info[i + 1][1], '%-(%d+)$') end
end
local trimmed = first and tonumber(first) - 1 or tonumber(last)
local after = ARGV[3] == '' and trimmed or tonumber(ARGV[3])
local entries = {}
if tonumber(ARGV[4]) > 0 then
  entries = call('XRANGE', key, '(0-' .. string.format('%.0f', after), '+', 'COUNT', ARGV[4])
end
return { generation, string.format('%.0f', trimmed), last, entries }
`,
    }),

    /** Forgets the records that were kept long enough, up to a number; ARGV: 1 root, 2 now, 3 how many. */
    sweep: RedisScript.make({
      name: "forget settled jobs",
      keys,
      args: (request: { readonly now: number; readonly limit: number }) => [
        root,
        String(request.now),
        String(request.limit),
      ],
      reply: Schema.Int,
      lua: `${sharedLua}
return sweep(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
`,
    }),

    /** Puts a job that can't be read among BullMQ's failed ones; ARGV: 1 root, 2 name, 3 id, 4 now, 5 token, 6 reason. */
    refuse: RedisScript.make({
      name: "refuse a job",
      keys,
      args: (request: Held & { readonly now: number; readonly reason: string }) => [
        root,
        request.name,
        request.id,
        String(request.now),
        request.token,
        request.reason,
      ],
      reply: Schema.Int,
      lua: `${sharedLua}${conclude}
local base, id = ARGV[1] .. ':' .. ARGV[2] .. ':', ARGV[3]
return moveToFinished(finishKeys(base, id, 'failed'), { id, ARGV[4], 'failedReason', ARGV[6], 'failed', '0', base,
  cmsgpack.pack({ token = ARGV[5], keepJobs = { count = -1 }, attempts = 0, maxMetricsSize = '' }), '' })
`,
    }),
  }
}

export type Scripts = ReturnType<typeof make>
