/**
 * Runs over HTTP for browsers and any runtime with `fetch`: `runEvents` and `sessionEvents` read, `append` writes. No
 * dependencies.
 *
 * `@throughline/client/RunClient` is the same as an Effect service, for programs that have Effect anyway.
 */
export { append, type Appended, type AppendOptions, type EventInput, type Producer } from "./append.ts"
export type { RequestOptions } from "./RequestOptions.ts"
export { type Problem, RunError } from "./RunError.ts"
export { type Connection, type ReadOptions, runEvents } from "./runEvents.ts"
export type { CaughtUp, Dropped, Envelope, Event, RunItem, Truncated } from "./RunItem.ts"
export { sessionEvents, type SessionOptions } from "./sessionEvents.ts"
export type { SessionCaughtUp, SessionItem, SessionTruncated } from "./SessionItem.ts"
