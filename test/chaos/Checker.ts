/**
 * What must hold after the faults, as a pure function over what producers, readers and the store say.
 *
 * Producers say which events were acknowledged to them, readers what they were given in which order; the store is read
 * once all is over, run by run and through its archive. Every way in which they can differ is a {@link Problem}.
 */

/** An event in the store. */
export interface Stored {
  readonly seq: number
  readonly eventId: string
  /** The number that its producer gave it, from 1; `undefined`: it is none of a run's lines. */
  readonly line: number | undefined
  /** `own`: the end that the run's producer gave it; `will`: it was ended because its producer was gone. */
  readonly end: "own" | "will" | undefined
}

/** An event that an append was acknowledged for. */
export interface Acknowledged {
  readonly runId: string
  readonly seq: number
  readonly eventId: string
}

/** What a reader was given of a run, over all the times it was started. */
export interface Received {
  readonly events: ReadonlyArray<{ readonly seq: number; readonly eventId: string }>
  /** Its stream of the run completed. */
  readonly isComplete: boolean
}

export interface Reader {
  readonly toRead: ReadonlySet<string>
  readonly runs: ReadonlyMap<string, Received>
}

/** An event as the archive gives it. */
export interface Replayed {
  readonly runId: string
  readonly seq: number
  readonly eventId: string
  readonly position: number
}

export interface Evidence {
  /** How many lines each run was to have. */
  readonly planned: ReadonlyMap<string, number>
  readonly stored: ReadonlyMap<string, ReadonlyArray<Stored>>
  readonly acknowledged: ReadonlyArray<Acknowledged>
  /** The archive from its start, in the order it gives. */
  readonly replayed: ReadonlyArray<Replayed>
  /** By reader: what it was to read, and what it was given of each run. */
  readonly received: ReadonlyMap<string, Reader>
}

export interface Problem {
  readonly problem:
    | "missing run"
    | "lost"
    | "stored twice"
    | "hole in the store"
    | "disorder in the store"
    | "no end"
    | "event after the end"
    | "ended without all lines"
    | "archive has a hole"
    | "archive has another event"
    | "archive goes back"
    | "reader has a hole"
    | "reader has a double"
    | "reader has a disorder"
    | "reader has another event"
    | "reader has no end"
  /** Who and where, for a person. */
  readonly where: string
}

const problemOf = (problem: Problem["problem"], where: string): Problem => ({ problem, where })

const noEvents: ReadonlyArray<Stored> = []

/** The store alone: seqs without holes, each event and each line once and in order, one end, at the end. */
const checkRun = (runId: string, lines: number, events: ReadonlyArray<Stored>): ReadonlyArray<Problem> => {
  if (events.length === 0) return [problemOf("missing run", runId)]
  const problems: Array<Problem> = []
  const ids = new Set<string>()
  let line = 0
  let end: Stored | undefined
  for (const [index, event] of events.entries()) {
    const where = `${runId} seq ${event.seq}`
    if (event.seq !== index + 1) problems.push(problemOf("hole in the store", `${where}, expected ${index + 1}`))
    if (end !== undefined) problems.push(problemOf("event after the end", where))
    if (ids.has(event.eventId)) problems.push(problemOf("stored twice", `${where}, event ${event.eventId}`))
    ids.add(event.eventId)
    if (event.end !== undefined) end = event
    if (event.line === undefined) continue
    if (event.line <= line) problems.push(problemOf("stored twice", `${where}, line ${event.line} after ${line}`))
    else if (event.line !== line + 1) {
      problems.push(problemOf("disorder in the store", `${where}, line ${event.line} after ${line}`))
    }
    line = Math.max(line, event.line)
  }
  if (end === undefined) problems.push(problemOf("no end", runId))
  if (end?.end === "own" && line !== lines) {
    problems.push(problemOf("ended without all lines", `${runId}: ${line} of ${lines}`))
  }
  return problems
}

const checkAcknowledged = ({ acknowledged, stored }: Evidence): ReadonlyArray<Problem> => {
  const problems: Array<Problem> = []
  for (const { eventId, runId, seq } of acknowledged) {
    const event = stored.get(runId)?.[seq - 1]
    if (event?.eventId === eventId) continue
    const found = event === undefined ? "there is nothing" : `there is event ${event.eventId}`
    problems.push(problemOf("lost", `${runId} seq ${seq}, event ${eventId}: ${found}`))
  }
  return problems
}

const checkArchive = ({ replayed, stored }: Evidence): ReadonlyArray<Problem> => {
  const problems: Array<Problem> = []
  const places = new Map<string, number>()
  let last = 0
  for (const { eventId, position, runId, seq } of replayed) {
    const where = `${runId} seq ${seq} at position ${position}`
    const place = places.get(runId) ?? 0
    if (position <= last) problems.push(problemOf("archive goes back", `${where} after ${last}`))
    if (seq !== place + 1) problems.push(problemOf("archive has a hole", `${where} after seq ${place}`))
    const known = stored.get(runId)?.[seq - 1]?.eventId
    if (known !== eventId) problems.push(problemOf("archive has another event", `${where}: ${eventId}, not ${known}`))
    places.set(runId, seq)
    last = position
  }
  for (const [runId, events] of stored) {
    const place = places.get(runId) ?? 0
    if (place < events.length) problems.push(problemOf("archive has a hole", `${runId} after seq ${place}`))
  }
  return problems
}

const checkReader = (
  who: string,
  { events, isComplete }: Received,
  stored: ReadonlyArray<Stored>,
): ReadonlyArray<Problem> => {
  const problems: Array<Problem> = []
  const seen = new Set<number>()
  let last = 0
  for (const { eventId, seq } of events) {
    const where = `${who} seq ${seq}`
    if (seen.has(seq)) problems.push(problemOf("reader has a double", where))
    else if (seq < last) problems.push(problemOf("reader has a disorder", `${where} after ${last}`))
    else if (seq !== last + 1) problems.push(problemOf("reader has a hole", `${where} after ${last}`))
    seen.add(seq)
    last = Math.max(last, seq)
    const known = stored[seq - 1]?.eventId
    if (known !== eventId) problems.push(problemOf("reader has another event", `${where}: ${eventId}, not ${known}`))
  }
  const lastStored = stored[stored.length - 1]
  if (!isComplete || lastStored?.end === undefined || !seen.has(lastStored.seq)) {
    problems.push(problemOf("reader has no end", `${who} after seq ${last} of ${lastStored?.seq ?? 0}`))
  }
  return problems
}

const nothing: Received = { events: [], isComplete: false }

/** Everything that is wrong; empty where all promises were kept. */
export const check = (evidence: Evidence): ReadonlyArray<Problem> => {
  const { planned, received, stored } = evidence
  const problems: Array<Problem> = []
  for (const [runId, lines] of planned) {
    const events = stored.get(runId) ?? noEvents
    problems.push(...checkRun(runId, lines, events))
    for (const [reader, { runs, toRead }] of received) {
      if (toRead.has(runId)) problems.push(...checkReader(`${reader} in ${runId}`, runs.get(runId) ?? nothing, events))
    }
  }
  return [...problems, ...checkAcknowledged(evidence), ...checkArchive(evidence)]
}
