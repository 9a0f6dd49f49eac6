/** What a reader's journal says: events in the order they came, and which runs came to their end. */
import * as Journal from "./Journal.ts"

/** The line of an event; its cursor says the run's generation too. */
export const eventLine = (item: {
  readonly cursor: string
  readonly envelope: { readonly runId: string; readonly eventId: string }
}): string => `event ${item.envelope.runId} ${item.cursor} ${item.envelope.eventId}`

/** The line of a run whose stream completed. */
export const completeLine = (runId: string): string => `complete ${runId}`

export interface Run {
  readonly events: Array<{ readonly seq: number; readonly cursor: string; readonly eventId: string }>
  isComplete: boolean
}

/** A reader's journal, by run. */
export const read = (path: string): ReadonlyMap<string, Run> => {
  const runs = new Map<string, Run>()
  for (const line of Journal.read(path)) {
    const [what, runId, cursor, eventId] = line.split(" ") as [string, string, string, string]
    let run = runs.get(runId)
    if (run === undefined) {
      run = { events: [], isComplete: false }
      runs.set(runId, run)
    }
    if (what === "complete") run.isComplete = true
    else run.events.push({ seq: Number.parseInt(cursor, 10), cursor, eventId })
  }
  return runs
}
