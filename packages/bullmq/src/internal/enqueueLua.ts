/** The script that accepts jobs. It is sent by BullMQ's own client, as its arguments are in part BullMQ's, packed. */
import { functionLua, sharedLua } from "./lua.ts"

const queueKeys = `
local function addKeys(base, kind)
  if kind == 'd' then
    return { base .. 'marker', base .. 'meta', base .. 'id', base .. 'delayed', base .. 'completed', base .. 'events' }
  end
  return { base .. 'marker', base .. 'meta', base .. 'id', base .. 'prioritized', base .. 'delayed', base .. 'completed',
    base .. 'active', base .. 'events', base .. 'pc' }
end
`

/**
 * Accepts requests, those of one turn of the event loop in one step: each whole, or it says why not.
 *
 * ARGV: 1 root, then for each: jobs that may wait or '', schedule or '', its time, number of jobs, and for each job: name, id, 'd' (delayed) or 'p',
 * BullMQ's three arguments, unique key or '', the fields tl and tl:more, ready at, rank of the priority
 *
 * Gives for each `{'ticked'}`, `{'full', waiting}`, or `{'ok', …}` with `+ID` of each job stored, `=ID` of the one in its place.
 */
export const enqueueLua = (bullmq: ReadonlyMap<string, string>): string => `${sharedLua}
${functionLua("addDelayed", bullmq.get("addDelayedJob")!)}
${functionLua("addPrioritized", bullmq.get("addPrioritizedJob")!)}
${queueKeys}
local root = ARGV[1]
local function accept(maxWaiting, schedule, at, from, to)
if schedule ~= '' then
  local last = call('HGET', root .. '::ticks', schedule)
  if last and tonumber(last) >= tonumber(at) then return { 'ticked' } end
end
if maxWaiting ~= '' then
  local fresh, seen = 0, {}
  for i = from, to, 11 do
    local base, id, unique = root .. ':' .. ARGV[i] .. ':', ARGV[i + 1], ARGV[i + 6]
    local isNew = not seen[id] and call('EXISTS', base .. id) == 0
    if isNew and unique ~= '' then
      local holder = call('GET', base .. 'de:' .. unique)
      local key = base .. 'de:' .. unique
      isNew = not seen[key] and not (holder and call('EXISTS', base .. holder) == 1)
      seen[key] = true
    end
    if isNew then
      fresh = fresh + 1
      seen[id] = true
    end
  end
  if fresh > 0 then
    local waiting = 0
    for _, name in ipairs(call('SMEMBERS', root .. '::names')) do
      local base = root .. ':' .. name .. ':'
      waiting = waiting + call('ZCARD', base .. 'prioritized') + call('ZCARD', base .. 'delayed')
        + call('LLEN', base .. 'wait') + call('LLEN', base .. 'paused')
    end
    if waiting + fresh > tonumber(maxWaiting) then return { 'full', tostring(waiting) } end
  end
end
if schedule ~= '' then call('HSET', root .. '::ticks', schedule, at) end
local answer = { 'ok' }
local named
for i = from, to, 11 do
  local name, id, kind = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if name ~= named then
    call('SADD', root .. '::names', name)
    named = name
  end
  local base = root .. ':' .. name .. ':'
  local add = kind == 'd' and addDelayed or addPrioritized
  local added = add(addKeys(base, kind), { ARGV[i + 3], ARGV[i + 4], ARGV[i + 5] })
  if added ~= id or call('HSETNX', base .. id, 'tl', ARGV[i + 7]) == 0 then
    answer[#answer + 1] = '=' .. added
  else
    if ARGV[i + 8] ~= '' then call('HSET', base .. id, 'tl:more', ARGV[i + 8]) end
    if kind == 'd' then
      call('HSET', base .. id, 'tl:readyAt', ARGV[i + 9])
    else
      call('ZADD', base .. 'prioritized', 'XX', scoreOf(ARGV[i + 10], ARGV[i + 9]), id)
    end
    answer[#answer + 1] = '+' .. id
  end
end
return answer
end
local answers, i = {}, 2
while i <= #ARGV do
  local to = i + 3 + 11 * tonumber(ARGV[i + 3])
  answers[#answers + 1] = accept(ARGV[i], ARGV[i + 1], ARGV[i + 2], i + 4, to)
  i = to + 1
end
return answers
`
