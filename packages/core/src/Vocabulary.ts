/**
 * Vocabularies: the events a kind of run speaks, as a value.
 *
 * A vocabulary is a named, versioned event schema plus functions over it. Backends never see it: it encodes events on
 * the way in and decodes them on the way out, and everything between works on envelope fields.
 *
 * **Example** (Bringing your own events)
 *
 * ```ts
 * import * as Vocabulary from "@throughline/core/Vocabulary"
 * import * as Schema from "effect/Schema"
 *
 * const Build = Schema.Union([
 *   Schema.TaggedStruct("StepStarted", { step: Schema.String }),
 *   Schema.TaggedStruct("BuildFinished", { ok: Schema.Boolean }),
 *   Schema.TaggedStruct("BuildLost", {}),
 * ])
 *
 * export const BuildEvents = Vocabulary.make({
 *   name: "build",
 *   version: 1,
 *   schema: Build,
 *   delivery: (event) => (event._tag === "StepStarted" ? "normal" : "terminal"),
 *   endsRun: (event) =>
 *     event._tag === "BuildFinished" ? (event.ok ? "completed" : "failed") : event._tag === "BuildLost" ? "failed" : undefined,
 *   abandoned: () => ({ _tag: "BuildLost" }) as const,
 * })
 * ```
 */
import * as Clock from "effect/Clock"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Envelope from "./Envelope.ts"

/** The vocabulary's schema refused an event, so it can never be stored. `problem` says which field and why. */
export class EventRefused extends Schema.TaggedError<EventRefused>("@throughline/core/Vocabulary/EventRefused")(
  "EventRefused",
  { vocabulary: Schema.String, problem: Schema.String },
) {
  override get message() {
    return `the event doesn't fit the vocabulary ${this.vocabulary}: ${this.problem}`
  }
}

/** A vocabulary by name and version, as a run's head keeps it. */
export const VocabularyId = Schema.Struct({ name: Schema.NonEmptyString, version: Schema.Int })
export type VocabularyId = typeof VocabularyId.Type

/** How progress events of one run merge when a slow reader's queue is full. */
export interface Coalesce<E> {
  /** Events with the same key may merge; `undefined`: this event never merges. */
  readonly key: (event: E) => string | undefined
  /** The event that stands for `earlier` and then `later`, two neighbours with the same key. */
  readonly merge: (earlier: E, later: E) => E
}

/** The events of a kind of run: how they are encoded, how they are delivered, and which of them end the run. */
export interface Vocabulary<in out E> {
  readonly id: VocabularyId
  readonly kind: (event: E) => string
  readonly delivery: (event: E) => Envelope.Delivery
  readonly endsRun: (event: E) => Envelope.Ending | undefined
  readonly coalesce: Coalesce<E> | undefined
  /** The event that ends a run whose producer is gone: the default of a run's will. */
  readonly abandoned: () => E
  /** The event as JSON text. */
  readonly encode: (event: E) => Result.Result<Envelope.EventJson, EventRefused>
  /** The event in a stored text; the failure says what didn't fit. */
  readonly decode: (json: string) => Result.Result<E, string>
}

/** The event type of a vocabulary. */
export type EventOf<V> = V extends Vocabulary<infer E> ? E : never

/** A schema whose values cross JSON without services. */
export type EventSchema<E> = Schema.Codec<E, unknown>

/**
 * Makes a vocabulary from a schema and functions over its events.
 *
 * Defaults: `kind` is the event's `_tag` (an event without one needs `kind`), `delivery` is `terminal` for events that
 * end the run and `normal` for the rest, nothing coalesces. An event that ends the run is always delivered as
 * `terminal`.
 */
export const make = <E>(options: {
  /** The name kept in each run's head. */
  readonly name: string
  /** Raised when the schema changes so that older events can no longer be read. */
  readonly version: number
  readonly schema: EventSchema<E>
  readonly kind?: ((event: E) => string) | undefined
  readonly delivery?: ((event: E) => Envelope.Delivery) | undefined
  readonly endsRun: (event: E) => Envelope.Ending | undefined
  readonly coalesce?: Coalesce<E> | undefined
  readonly abandoned: () => E
}): Vocabulary<E> => {
  const codec = Schema.toCodecJson(options.schema)
  const encode = Schema.encodeResult(codec)
  const decode = Schema.decodeUnknownResult(codec)
  const delivery = options.delivery ?? (() => "normal" as const)
  return {
    id: { name: options.name, version: options.version },
    kind: options.kind ?? tagOf,
    delivery: (event) => (options.endsRun(event) === undefined ? delivery(event) : "terminal"),
    endsRun: options.endsRun,
    coalesce: options.coalesce,
    abandoned: options.abandoned,
    encode: (event) => {
      const encoded = encode(event)
      return Result.isSuccess(encoded)
        ? Result.succeed(JSON.stringify(encoded.success) as Envelope.EventJson)
        : Result.fail(new EventRefused({ vocabulary: options.name, problem: String(encoded.failure) }))
    },
    decode: (json) => {
      let parsed: unknown
      try {
        parsed = JSON.parse(json)
      } catch (cause) {
        return Result.fail(`not JSON (${(cause as SyntaxError).message})`)
      }
      return Result.mapError(decode(parsed), String)
    },
  }
}

const tagOf = (event: unknown): string => {
  const tag = (event as { readonly _tag?: unknown })._tag
  return typeof tag === "string" ? tag : "Event"
}

/** A time in milliseconds since 1970 as ISO 8601 in UTC with milliseconds. */
export const timestamp = (millis: number): string => DateTime.formatIso(DateTime.makeUnsafe(millis))

/**
 * Encodes one event with the identity and time given by the caller: the form for hot loops.
 *
 * Fields the input names win over `eventId` and `emittedAt`.
 */
export const encodeWith = <E>(
  vocabulary: Vocabulary<E>,
  input: Envelope.EventInput<E>,
  eventId: Envelope.EventId,
  emittedAt: string,
): Result.Result<Envelope.EncodedEvent, EventRefused> => {
  const json = vocabulary.encode(input.event)
  if (Result.isFailure(json)) return Result.fail(json.failure)
  const problem = Envelope.fieldProblem(input)
  if (problem !== undefined) return Result.fail(new EventRefused({ vocabulary: vocabulary.id.name, problem }))
  const endsRun = vocabulary.endsRun(input.event)
  // Assigned, not spread: this runs once per event, and most events have none of the optional fields.
  const encoded: { -readonly [Field in keyof Envelope.EncodedEvent]: Envelope.EncodedEvent[Field] } = {
    eventId: input.eventId ?? eventId,
    kind: vocabulary.kind(input.event),
    delivery: vocabulary.delivery(input.event),
    emittedAt: input.emittedAt ?? emittedAt,
    tags: input.tags ?? noTags,
    correlation: input.correlation ?? noCorrelation,
    event: json.success,
  }
  if (input.agentId !== undefined) encoded.agentId = input.agentId
  if (input.provider !== undefined) encoded.provider = input.provider
  if (input.turnId !== undefined) encoded.turnId = input.turnId
  if (endsRun !== undefined) encoded.endsRun = endsRun
  return Result.succeed(encoded)
}

const noTags: ReadonlyArray<string> = []
const noCorrelation: Readonly<Record<string, string>> = {}

/** Encodes one event, minting its `eventId` (UUIDv7) and `emittedAt` where the input has none. */
export const encode = Effect.fnUntraced(function* <E>(vocabulary: Vocabulary<E>, input: Envelope.EventInput<E>) {
  const random = yield* SecureRandom.SecureRandom
  const eventId = (yield* random.uuidV7()) as Envelope.EventId
  const emittedAt = timestamp(yield* Clock.currentTimeMillis)
  return yield* Effect.fromResult(encodeWith(vocabulary, input, eventId, emittedAt))
})
