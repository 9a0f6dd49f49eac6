/**
 * BullMQ's Lua, and what is put around it.
 *
 * BullMQ gives its scripts to a client by `defineCommand`. Those that settle a claim are given on with some lines before and
 * after them, so that the results log, the time a record is kept and a cancellation are in one step with what BullMQ does.
 * Others are kept as text: they are functions of this package's own scripts.
 *
 * A ready job's score in `P:NAME:prioritized` is its priority times 2^32, as in BullMQ, plus the time when it became ready in
 * seconds. Where BullMQ's Lua counts up instead, ours puts the job in its place after it.
 *
 * Everything is in one hash slot: the prefix is a hash tag.
 *
 * | key | type | holds |
 * | --- | --- | --- |
 * | `P:NAME:…` | | BullMQ's keys of the queue of one job name |
 * | `P:NAME:ID` | hash | BullMQ's job, with fields of this package that begin with `tl` |
 * | `P::names` | set | the job names that ever had a job |
 * | `P::results` | stream | the results log; entry ids are the positions, `0-N` |
 * | `P::log` | string | the name of the results log, which its cursors carry |
 * | `P::expiry` | sorted set | `NAME:ID` of every settled job, by the time it is kept until |
 * | `P::cancelled:NAME` | set | which of the queue's failed jobs were cancelled |
 * | `P::ticks` | hash | of each schedule the last time it fired for |
 * | `P::wake:…` | sorted set | wakes one process out of its blocking wait |
 *
 * `P` is the prefix in braces. Channels: `P::settled` says the ids of jobs that settle or are removed, `P::cancel` that of
 * a running job which is to stop.
 */
import type { Redis } from "ioredis"

/** A settled record can be read this long, in ms, after its time, by who waited for it to settle. */
const grace = 10_000

/** What of a job's hash makes its record, in the order that scripts give it. */
export const jobFields = [
  "data",
  "timestamp",
  "priority",
  "stc",
  "processedOn",
  "finishedOn",
  "returnvalue",
  "progress",
  "stacktrace",
  "deid",
  "tl",
  "tl:more",
  "tl:readyAt",
  "tl:failures",
  "tl:cancel",
  "ats",
] as const

/** What scripts share. `base` is what the keys of one queue begin with. */
export const sharedLua = `
local call = redis.call
local function forget(root, name, id)
  local key = root .. ':' .. name .. ':' .. id
  call('DEL', key, key .. ':logs', key .. ':dependencies', key .. ':processed', key .. ':failed', key .. ':unsuccessful')
  call('SREM', root .. '::cancelled:' .. name, id)
end
local function sweep(root, now, limit)
  local due = call('ZRANGEBYSCORE', root .. '::expiry', '-inf', now - ${grace}, 'LIMIT', 0, limit)
  for _, member in ipairs(due) do
    local name, id = string.match(member, '^([^:]*):(.*)$')
    local base = root .. ':' .. name .. ':'
    if call('ZREM', base .. 'completed', id) + call('ZREM', base .. 'failed', id) > 0 then
      forget(root, name, id)
      call('PUBLISH', root .. '::settled', id)
    end
    call('ZREM', root .. '::expiry', member)
  end
  return #due
end
local function log(root, name, id, outcome, at, failed, value, keep, max)
  call('XADD', root .. '::results', 'MAXLEN', max, '0-*', 'i', id, 'n', name, 'o', outcome, 'a', at, 'f', failed, 'v', value)
  call('ZADD', root .. '::expiry', tonumber(at) + tonumber(keep), name .. ':' .. id)
  if outcome == 'cancelled' then
    call('HSET', root .. ':' .. name .. ':' .. id, 'tl:cancelled', '1')
    call('SADD', root .. '::cancelled:' .. name, id)
  elseif outcome == 'dead' then
    call('HDEL', root .. ':' .. name .. ':' .. id, 'tl:cancelled')
    call('SREM', root .. '::cancelled:' .. name, id)
  end
end
local function nameOf(root, id)
  for _, name in ipairs(call('SMEMBERS', root .. '::names')) do
    if call('EXISTS', root .. ':' .. name .. ':' .. id) == 1 then return name end
  end
end
local function stateOf(base, id, now)
  if call('ZSCORE', base .. 'completed', id) then return 'succeeded' end
  if call('ZSCORE', base .. 'failed', id) then
    return call('HEXISTS', base .. id, 'tl:cancelled') == 1 and 'cancelled' or 'dead'
  end
  local due = call('ZSCORE', base .. 'delayed', id)
  if due then return math.floor(tonumber(due) / 4096) <= now and 'waiting' or 'delayed' end
  if call('ZSCORE', base .. 'prioritized', id) then return 'waiting' end
  if call('LPOS', base .. 'active', id) then return 'running' end
  if call('LPOS', base .. 'wait', id) or call('LPOS', base .. 'paused', id) then return 'waiting' end
  return 'unknown'
end
-- Where a job is among the ready ones: by its priority, then by when it became ready (in seconds, to the ms), then by its id.
-- BullMQ counts instead; it takes the lowest score of a priority all the same.
local function scoreOf(priority, readyAt)
  return tonumber(priority) * 4294967296 + math.min(math.max(tonumber(readyAt) / 1000, 0), 4294967295)
end
local function place(base, id)
  local values = call('HMGET', base .. id, 'priority', 'tl:readyAt', 'timestamp', 'tl')
  if values[4] then call('ZADD', base .. 'prioritized', 'XX', scoreOf(values[1], values[2] or values[3]), id) end
end
local function fieldsOf(base, id)
  return call('HMGET', base .. id, ${jobFields.map((field) => `'${field}'`).join(", ")})
end
`

/** A script as a function of another one. */
export const functionLua = (name: string, lua: string): string => `local function ${name}(KEYS, ARGV)\n${lua}\nend\n`

/** BullMQ's script that settles a job, and its keys. */
const finishLua = (moveToFinished: string): string => `${functionLua("moveToFinished", moveToFinished)}
local function finishKeys(base, id, target)
  return { base .. 'wait', base .. 'active', base .. 'prioritized', base .. 'events', base .. 'stalled', base .. 'limiter',
    base .. 'delayed', base .. 'paused', base .. 'meta', base .. 'pc', base .. target, base .. id,
    base .. 'metrics:' .. target, base .. 'marker' }
end
`

/**
 * Settles jobs that succeeded, those of one turn of the event loop in one step; gives 0 or BullMQ's code for each.
 *
 * ARGV: 1 root, 2 max results, then for each: name, id, token, now, result, attempts, failed attempts, ms to keep
 */
export const succeedLua = (moveToFinished: string): string => `${sharedLua}${finishLua(moveToFinished)}
local root, max, answers, settled = ARGV[1], ARGV[2], {}, {}
for i = 3, #ARGV, 8 do
  local name, id, now, result = ARGV[i], ARGV[i + 1], ARGV[i + 3], ARGV[i + 4]
  local base = root .. ':' .. name .. ':'
  local answer = moveToFinished(finishKeys(base, id, 'completed'), { id, now, 'returnvalue', result, 'completed', '0', base,
    cmsgpack.pack({ token = ARGV[i + 2], keepJobs = { count = -1 }, attempts = tonumber(ARGV[i + 5]), maxMetricsSize = '' }), '' })
  if type(answer) == 'table' or answer >= 0 then
    log(root, name, id, 'succeeded', now, ARGV[i + 6], result, ARGV[i + 7], max)
    settled[#settled + 1] = id
    answer = 0
  end
  answers[#answers + 1] = answer
end
if #settled > 0 then call('PUBLISH', root .. '::settled', table.concat(settled, ' ')) end
return answers
`

/** Settles a job that no worker holds. */
export const concludeLua = (moveToFinished: string): string => `${finishLua(moveToFinished)}
local function conclude(root, name, id, now, reason, outcome, failed, value, keep, max)
  local base = root .. ':' .. name .. ':'
  call('LPUSH', base .. 'active', id)
  moveToFinished(finishKeys(base, id, 'failed'),
    { id, now, 'failedReason', reason, 'failed', '0', base,
      cmsgpack.pack({ token = '0', keepJobs = { count = -1 }, attempts = 0, maxMetricsSize = '' }), '' })
  log(root, name, id, outcome, now, failed, value, keep, max)
  call('PUBLISH', root .. '::settled', id)
end
`

/** The answer of a script that found a cancellation instead of settling a claim. */
export const cancelAsked = -100

/** ARGV 10 root, 11 name, 12 outcome, 13 failed attempts, 14 value of the log's entry, 15 ms to keep, 16 max results */
const aroundFinished = (lua: string): string => `${sharedLua}${functionLua("moveToFinished", lua)}
if ARGV[12] == 'dead' and call('HEXISTS', KEYS[12], 'tl:cancel') == 1 then return ${cancelAsked} end
local answer = moveToFinished(KEYS, ARGV)
if type(answer) == 'table' or answer >= 0 then
  log(ARGV[10], ARGV[11], ARGV[1], ARGV[12], ARGV[2], ARGV[13], ARGV[14], ARGV[15], ARGV[16])
  call('PUBLISH', ARGV[10] .. '::settled', ARGV[1])
end
return answer
`

const aroundDelayed = (lua: string): string =>
  `if redis.call('HEXISTS', KEYS[5], 'tl:cancel') == 1 then return ${cancelAsked} end\n${lua}`

/** A retry at once. BullMQ would bring delayed jobs along, to the places that it counts: it is told of no delayed jobs. */
const aroundRetry = (lua: string): string => `${sharedLua}${functionLua("retry", lua)}
if call('HEXISTS', KEYS[4], 'tl:cancel') == 1 then return ${cancelAsked} end
KEYS[7] = KEYS[7] .. ':none'
local answer = retry(KEYS, ARGV)
if answer >= 0 then place(ARGV[1], ARGV[4]) end
return answer
`

const aroundGivenBack = (lua: string): string => `${sharedLua}${functionLua("giveBack", lua)}
if call('HEXISTS', ARGV[3], 'tl:cancel') == 1 then return ${cancelAsked} end
local answer = giveBack(KEYS, ARGV)
if answer >= 0 then place(string.sub(ARGV[3], 1, -#ARGV[1] - 1), ARGV[1]) end
return answer
`

const around: Readonly<Record<string, (lua: string) => string>> = {
  moveToFinished: aroundFinished,
  moveToDelayed: aroundDelayed,
  retryJob: aroundRetry,
  moveJobFromActiveToWait: aroundGivenBack,
}

/**
 * Keeps the scripts that BullMQ gives a client, by their names, and puts ours around some of them.
 *
 * The client is one that only this package uses.
 */
export const captureScripts = (client: Redis): ReadonlyMap<string, string> => {
  const scripts = new Map<string, string>()
  const define = client.defineCommand.bind(client)
  client.defineCommand = (command, definition) => {
    const name = command.split(":", 1)[0]!
    scripts.set(name, definition.lua)
    const lua = around[name]?.(definition.lua) ?? definition.lua
    define(command, { ...definition, lua })
  }
  return scripts
}
