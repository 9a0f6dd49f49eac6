/** What goes wrong below, as the port's errors. */
import { EngineFailed, PoolFull } from "@throughline/core/JobError"
import { reasonOf, RedisFailed, toStoreReason } from "@throughline/redis/RedisFailed"
import { StoreBroken, StoreUnavailable } from "@throughline/core/EventStoreError"
import { cancelAsked } from "./lua.ts"

export const engineFailed = (operation: string) => (failure: RedisFailed) =>
  new EngineFailed({ operation, reason: toStoreReason(failure) })

export const broken = (operation: string, detail: string) =>
  new EngineFailed({ operation, reason: new StoreBroken({ detail }) })

export const closed = (operation: string) =>
  new EngineFailed({ operation, reason: new StoreUnavailable({ detail: "the engine is closed" }) })

/** BullMQ's errors carry the code that its script answered with. */
const codeOf = (error: unknown): number | undefined =>
  error instanceof Error && "code" in error && typeof error.code === "number" ? error.code : undefined

/** What BullMQ rejected with, as a failed command. */
export const redisFailed =
  (command: string) =>
  (error: unknown): RedisFailed =>
    new RedisFailed({ command, reason: reasonOf(error, 0) })

export const bullmqFailed =
  (operation: string) =>
  (error: unknown): EngineFailed =>
    engineFailed(operation)(redisFailed(operation)(error))

export const enqueueFailed = (error: unknown): EngineFailed | PoolFull =>
  error instanceof PoolFull ? error : bullmqFailed("enqueue")(error)

/** Why BullMQ stored nothing of a claim, or may not have: a cancellation comes first, the claim is lost, no answer came. */
export const refusalOf = (error: unknown): "cancel" | "lost" | "unanswered" => {
  const code = codeOf(error)
  if (code === undefined || code >= 0) return "unanswered"
  return code === cancelAsked ? "cancel" : "lost"
}
