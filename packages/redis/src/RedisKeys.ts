/**
 * Where everything is in Redis.
 *
 * What belongs to one run shares the run's hash tag, so that it shares a slot of a Redis Cluster. What spans runs has a
 * tag of its own; the append script writes it in the same step as the run, which a Cluster can't: that is the seam.
 *
 * | key | type | holds |
 * | --- | --- | --- |
 * | `P{run}` | hash | a run's head, its lease and will, and its producers (fields `p:ID`) |
 * | `P{run}:e` | stream | a run's events; entry ids are the seqs, `SEQ-0` |
 * | `P{@}:runs` | sorted set | every run, by the time it started |
 * | `P{@}:open` | sorted set | the runs that have not ended, by the time they started |
 * | `P{@}:ended` | sorted set | the runs that have ended, by the time they did |
 * | `P{@}:runs:SESSION` | sorted set | the runs of a session, by the time they started |
 * | `P{@}:index` | stream | one entry per append, `0-1`, `0-2`, … in the order they became visible |
 * | `P{@}:index:SESSION` | stream | the entries of a session's appends, under the same ids |
 * | `P{@}:removed` | set | what of removed runs is still in the index |
 * | `P{@}:remains` | hash | of each ended run that expires: when, its last entry in the index, its session |
 *
 * An index entry is `RUN FIRSTSEQ COUNT PREVIOUS` in the field `a`; `PREVIOUS` is the id of the run's entry before, or `-`.
 * The event of seq `FIRSTSEQ + k` of entry `0-N` has position `N * 4096 + k`. Each stored event has its record in the field
 * `r` and its entry's id in the field `p`: an entry counts only for events that name it. Entries of appends that retention
 * has trimmed whole are deleted, but the one of the last trimmed event, which is `tp` in the run's hash. The index outlives
 * its last entry, as its last id is where positions go on.
 *
 * `P` is the prefix. Channels are `P` and a room's name: `Prun:ID`, `Psession:ID`, `Pagent:ID`, `Pprovider:NAME`, `Pall`.
 */
import { type Room, roomName } from "@throughline/core/Envelope"

/** The prefix of every key and channel unless another is configured. */
export const defaultPrefix = "throughline:"

/** A run's head, lease, will and producers. */
export const run = (prefix: string, runId: string): string => `${prefix}{${runId}}`

/** A run's events. */
export const events = (prefix: string, runId: string): string => `${prefix}{${runId}}:e`

/**
 * What the keys that span runs begin with. `@` is in no run's id, so no run shares their tag; scripts put the names after
 * it themselves, as a run's session is known only to Redis.
 */
export const shared = (prefix: string): string => `${prefix}{@}:`

/** Every run, by the time it started; of one session where one is given. */
export const runs = (prefix: string, sessionId?: string): string =>
  sessionId === undefined ? `${shared(prefix)}runs` : `${shared(prefix)}runs:${sessionId}`

/** The runs that have not ended, by the time they started. */
export const open = (prefix: string): string => `${shared(prefix)}open`

/** The runs that have ended, by the time they did. */
export const ended = (prefix: string): string => `${shared(prefix)}ended`

/** The index of all appends, or of a session's. */
export const index = (prefix: string, sessionId?: string): string =>
  sessionId === undefined ? `${shared(prefix)}index` : `${shared(prefix)}index:${sessionId}`

/** What of removed runs is still in the index. */
export const removed = (prefix: string): string => `${shared(prefix)}removed`

/** The channel of a room. */
export const channel = (prefix: string, room: Room): string => prefix + roomName(room)

/** What the channels of runs begin with. */
export const runChannel = (prefix: string): string => `${prefix}run:`
