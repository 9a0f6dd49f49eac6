/**
 * Handing envelopes to the outside: a port for a system that is not this library's (a queue, a log, a webhook), and the built-in
 * job that hands one over until it is taken.
 *
 * Envelopes arrive at least once and in no order; `runId` and `seq` tell a receiver both.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { EncodedEnvelope } from "./Envelope.ts"
import * as Job from "./Job.ts"
import type { EngineFailed } from "./JobError.ts"
import type { HandlerOptions, JobPool } from "./JobPool.ts"

/** The envelope was not taken; `isRetryable` says whether it may be another time. */
export class PublishFailed extends Schema.TaggedError<PublishFailed>("@throughline/core/EventPublisher/PublishFailed")(
  "PublishFailed",
  { detail: Schema.String, isRetryable: Schema.Boolean, cause: Schema.optionalKey(Schema.Defect()) },
) {
  override get message() {
    return `the envelope was not published: ${this.detail}`
  }
}

/** Where envelopes go. */
export class EventPublisher extends Context.Service<
  EventPublisher,
  {
    /** Hands an envelope over. Returns once it is taken, as far as the other side can say so. */
    readonly publish: (envelope: EncodedEnvelope) => Effect.Effect<void, PublishFailed>
  }
>()("@throughline/core/EventPublisher") {}

/** Hands an envelope to the program's {@link EventPublisher}; what can't be taken for good goes straight to the dead letters. */
export const PublishEnvelope = Job.make("throughline.publish-envelope", {
  payload: EncodedEnvelope,
  error: PublishFailed,
  maxAttempts: 20,
  giveUp: ({ isRetryable }) => !isRetryable,
})

/** The handler of {@link PublishEnvelope}. */
export const layerJob = (options?: HandlerOptions): Layer.Layer<never, EngineFailed, JobPool | EventPublisher> =>
  Job.toLayer(
    PublishEnvelope,
    (envelope) => Effect.flatMap(EventPublisher, (publisher) => publisher.publish(envelope)),
    options,
  )
