/** What a reader's journal says: events in the order they came, of runs and of sessions, and what came to its end. */
import * as JournalFile from "./Journal.ts"

/** The line of an event; its cursor says the run's generation too. */
export const eventLine = (item: {
  readonly cursor: string
  readonly envelope: { readonly runId: string; readonly eventId: string }
}): string => `event ${item.envelope.runId} ${item.cursor} ${item.envelope.eventId}`

/** The line of a run whose stream completed. */
export const completeLine = (runId: string): string => `complete ${runId}`

/** The line of an event that came through its session. */
export const sessionEventLine = (
  sessionId: string,
  item: {
    readonly cursor: string
    readonly envelope: { readonly runId: string; readonly eventId: string; readonly seq: number }
  },
): string => `session ${sessionId} ${item.cursor} ${item.envelope.runId} ${item.envelope.seq} ${item.envelope.eventId}`

/** The line of a session of which all was received. */
export const sessionCompleteLine = (sessionId: string): string => `session-complete ${sessionId}`

interface Received {
  readonly events: Array<{ readonly seq: number; readonly cursor: string; readonly eventId: string }>
  isComplete: boolean
}

/** A session's runs, and where to go on. */
interface Session {
  readonly runs: Map<string, Received>
  cursor: string | undefined
  isComplete: boolean
}

export interface Journal {
  readonly runs: ReadonlyMap<string, Received>
  readonly sessions: ReadonlyMap<string, Session>
}

const entryOf = <A>(entries: Map<string, A>, key: string, make: () => A): A => {
  const known = entries.get(key)
  if (known !== undefined) return known
  const made = make()
  entries.set(key, made)
  return made
}

const nothing = (): Received => ({ events: [], isComplete: false })

/** A reader's journal, by run and by session. */
export const read = (path: string): Journal => {
  const runs = new Map<string, Received>()
  const sessions = new Map<string, Session>()
  const sessionOf = (id: string) =>
    entryOf(sessions, id, () => ({ runs: new Map<string, Received>(), cursor: undefined, isComplete: false }))
  for (const line of JournalFile.read(path)) {
    const [what, id, cursor, ...rest] = line.split(" ") as [string, string, string, ...Array<string>]
    if (what === "complete") entryOf(runs, id, nothing).isComplete = true
    else if (what === "event") {
      entryOf(runs, id, nothing).events.push({ seq: Number.parseInt(cursor, 10), cursor, eventId: rest[0]! })
    } else if (what === "session-complete") sessionOf(id).isComplete = true
    else {
      const [runId, seq, eventId] = rest as [string, string, string]
      const session = sessionOf(id)
      entryOf(session.runs, runId, nothing).events.push({ seq: Number(seq), cursor, eventId })
      session.cursor = cursor
    }
  }
  return { runs, sessions }
}
