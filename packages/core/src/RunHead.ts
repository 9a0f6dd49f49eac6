/** A run without its events: where it begins and ends, how it stands, who is alive. */
import type { Ending, RunId, SessionId } from "./Envelope.ts"
import type { VocabularyId } from "./Vocabulary.ts"

/** How a run stands: `unknown` runs have no events, `running` ones have not ended. */
export type RunStatus = "unknown" | "running" | Ending

/** A lease as a run's head shows it. */
export interface Lease {
  /** Rises with every append that carries a lease and with every renewal. */
  readonly version: number
  /** Milliseconds since 1970 by the store's clock. */
  readonly expiresAt: number
  readonly hasWill: boolean
}

/** A run without its events. Times are milliseconds since 1970 by the store's clock. */
export interface RunHead {
  readonly runId: RunId
  /** 0 for an unknown run. */
  readonly lastSeq: number
  /** The oldest seq left; 0 for an unknown run. */
  readonly firstSeq: number
  readonly status: RunStatus
  readonly generation?: string
  readonly sessionId?: SessionId
  readonly vocabulary?: VocabularyId
  readonly lease?: Lease
  readonly startedAt?: number
  readonly lastActivityAt?: number
}

/** The head of a run that has no events. */
export const unknownHead = (runId: RunId): RunHead => ({ runId, lastSeq: 0, firstSeq: 0, status: "unknown" })
