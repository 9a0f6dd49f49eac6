/**
 * What travels: ids, events as they are appended, envelopes as they are stored, rooms and frames.
 *
 * An event enters as an {@link EventInput} of some vocabulary, is encoded once into an {@link EncodedEvent}, and is
 * stored as an {@link EncodedEnvelope}: routing fields plus the event as JSON text. Stores, adapters and the hub move
 * encoded envelopes and never look inside `event`, so a stored event can reach a browser without being parsed on the
 * way. A reader that names a vocabulary gets an {@link Envelope} with the decoded event.
 */
import * as Schema from "effect/Schema"
import * as envelopeJson from "./internal/envelopeJson.ts"

const idPattern = /^[A-Za-z0-9._:-]{1,128}$/
const eventIdPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const timestampPattern = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/

const Id = Schema.String.check(Schema.isPattern(idPattern, { expected: "1 to 128 characters of A-Z a-z 0-9 . _ : -" }))

/**
 * One execution of an agent, a job or any process: 1 to 128 characters of `A-Z a-z 0-9 . _ : -`.
 *
 * **Example** (Naming a run)
 *
 * ```ts
 * import * as Envelope from "@throughline/core/Envelope"
 *
 * const runId = Envelope.RunId.make("build-2041")
 * ```
 */
export const RunId = Id.pipe(Schema.brand("RunId"))
export type RunId = typeof RunId.Type

/** A group of runs, such as a chat or a ticket: same characters as a {@link RunId}. */
export const SessionId = Id.pipe(Schema.brand("SessionId"))
export type SessionId = typeof SessionId.Type

/** The agent an event came from: same characters as a {@link RunId}. */
export const AgentId = Id.pipe(Schema.brand("AgentId"))
export type AgentId = typeof AgentId.Type

/** The identity of one event: a UUIDv7 in lowercase, hyphenated form. */
export const EventId = Schema.String.check(
  Schema.isPattern(eventIdPattern, {
    expected: "a UUIDv7 in lowercase",
  }),
).pipe(Schema.brand("EventId"))
export type EventId = typeof EventId.Type

/**
 * What may happen to an event under pressure: `progress` may be dropped or merged, `normal` may be dropped by the
 * policies that say so, `terminal` settles something and is never dropped.
 */
export const Delivery = Schema.Literals(["progress", "normal", "terminal"])
export type Delivery = typeof Delivery.Type

/** How an event ends its run. */
export const Ending = Schema.Literals(["completed", "failed", "cancelled"])
export type Ending = typeof Ending.Type

/** The JSON text of an encoded event, as it is stored and as it goes over a wire. */
export const EventJson = Schema.String.pipe(Schema.brand("EventJson"))
export type EventJson = typeof EventJson.Type

const Correlation = Schema.Record(Schema.String, Schema.String)

/** A moment as ISO 8601 in UTC with milliseconds: `2026-01-31T09:30:00.000Z`. */
export const Timestamp = Schema.String.check(
  Schema.isPattern(timestampPattern, {
    expected: "ISO 8601 in UTC with milliseconds, such as 2026-01-31T09:30:00.000Z",
  }),
)

/** What an append takes from the outside: an event of type `E` and, optionally, its routing fields. */
export interface EventInput<out E> {
  readonly event: E
  /** Minted before the first try where absent; part of what makes a repeated append the same. */
  readonly eventId?: EventId | undefined
  readonly agentId?: AgentId | undefined
  readonly provider?: string | undefined
  readonly turnId?: string | undefined
  readonly tags?: ReadonlyArray<string> | undefined
  readonly correlation?: Readonly<Record<string, string>> | undefined
  /** ISO 8601, UTC, milliseconds; the appender's clock where absent. */
  readonly emittedAt?: string | undefined
}

const eventFields = {
  eventId: EventId,
  agentId: Schema.optionalKey(AgentId),
  provider: Schema.optionalKey(Schema.String),
  turnId: Schema.optionalKey(Schema.String),
  kind: Schema.String,
  delivery: Delivery,
  endsRun: Schema.optionalKey(Ending),
  emittedAt: Timestamp,
  tags: Schema.Array(Schema.String),
  correlation: Correlation,
}

/** An event ready to be stored: its vocabulary's answers beside the event as JSON text. A run's will has this shape. */
export const EncodedEvent = Schema.Struct({ ...eventFields, event: EventJson })
export type EncodedEvent = typeof EncodedEvent.Type

/** The fields of an event that its appender gives, checked where they enter: what a store takes it must give back. */
type GivenFields = Omit<EventInput<unknown>, "event" | "tags" | "correlation">

/** What is wrong with an event's routing fields. Text with a lone surrogate is no Unicode, so no store gives it back. */
export const fieldProblem = (event: GivenFields): string | undefined => {
  if (event.eventId !== undefined && !eventIdPattern.test(event.eventId)) return "eventId is no UUIDv7 in lowercase"
  if (event.emittedAt !== undefined && !timestampPattern.test(event.emittedAt)) {
    return `emittedAt ${event.emittedAt} is not ISO 8601 in UTC with milliseconds, such as 2026-01-31T09:30:00.000Z`
  }
  if (event.agentId !== undefined && !idPattern.test(event.agentId)) {
    return "agentId has other than 1 to 128 characters of A-Z a-z 0-9 . _ : -"
  }
  if (event.provider?.isWellFormed() === false) return "provider has a lone surrogate"
  return event.turnId?.isWellFormed() === false ? "turnId has a lone surrogate" : undefined
}

const Seq = Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))

const envelopeFields = {
  eventId: EventId,
  /** The position in the run: 1, 2, 3 …, no holes. */
  seq: Seq,
  runId: RunId,
  sessionId: Schema.optionalKey(SessionId),
  agentId: eventFields.agentId,
  provider: eventFields.provider,
  turnId: eventFields.turnId,
  kind: eventFields.kind,
  delivery: eventFields.delivery,
  endsRun: eventFields.endsRun,
  emittedAt: eventFields.emittedAt,
  tags: eventFields.tags,
  correlation: eventFields.correlation,
  /** The version of the vocabulary that wrote the event. */
  schemaVersion: Schema.Int,
}

/** An envelope as stores and adapters move it: `event` is JSON text. */
export const EncodedEnvelope = Schema.Struct({ ...envelopeFields, event: EventJson })
export type EncodedEnvelope = typeof EncodedEnvelope.Type

/** What may be an envelope: its fields as they were found. */
export type FoundEnvelope = { -readonly [Field in keyof EncodedEnvelope]?: unknown }

/** Many envelopes in a row have the same text in a place: it is looked at once. */
const matches = (pattern: RegExp) => {
  let last: string | undefined
  return (text: unknown): boolean => {
    if (typeof text !== "string") return false
    if (text === last) return true
    if (!pattern.test(text)) return false
    last = text
    return true
  }
}

const isRunId = matches(idPattern)
const isSessionId = matches(idPattern)
const isAgentId = matches(idPattern)
const isTimestamp = matches(timestampPattern)

const areStrings = (values: unknown): boolean => {
  if (!Array.isArray(values)) return false
  for (let index = 0; index < values.length; index++) if (typeof values[index] !== "string") return false
  return true
}

const isRecordOfStrings = (record: unknown): boolean => {
  // The prototype of what JSON is parsed to; such an object has nothing but own keys.
  if (typeof record !== "object" || record === null || Object.getPrototypeOf(record) !== Object.prototype) return false
  for (const key in record) if (typeof (record as Record<string, unknown>)[key] !== "string") return false
  return true
}

/**
 * Whether what a store found is an {@link EncodedEnvelope} as it is, in an eighth of the time that decoding takes: stores
 * ask it of every event they read. What it says no to is for the schema to decide on, which tells what is wrong.
 *
 * For parsed JSON and values of a database: no field is there with `undefined`, and none that an envelope hasn't.
 */
export const isEncoded = (found: FoundEnvelope): found is EncodedEnvelope => {
  const { delivery, endsRun, eventId, seq } = found
  return (
    typeof eventId === "string" &&
    eventIdPattern.test(eventId) &&
    Number.isSafeInteger(seq) &&
    (seq as number) >= 1 &&
    isRunId(found.runId) &&
    (found.sessionId === undefined || isSessionId(found.sessionId)) &&
    (found.agentId === undefined || isAgentId(found.agentId)) &&
    (found.provider === undefined || typeof found.provider === "string") &&
    (found.turnId === undefined || typeof found.turnId === "string") &&
    typeof found.kind === "string" &&
    (delivery === "progress" || delivery === "normal" || delivery === "terminal") &&
    (endsRun === undefined || endsRun === "completed" || endsRun === "failed" || endsRun === "cancelled") &&
    isTimestamp(found.emittedAt) &&
    areStrings(found.tags) &&
    isRecordOfStrings(found.correlation) &&
    Number.isSafeInteger(found.schemaVersion) &&
    typeof found.event === "string"
  )
}

/** The routing fields of an envelope, without the event. */
export type Routing = Omit<EncodedEnvelope, "event">

/** An envelope with its event decoded. */
export interface Envelope<out E> extends Routing {
  readonly event: E
}

/** The envelope as one JSON value with the field names of the wire, for an event schema. */
export const schema = <S extends Schema.Constraint>(event: S) => Schema.Struct({ ...envelopeFields, event })

/**
 * The envelope as JSON, `event` embedded as it is stored: it is neither parsed nor printed again, so the text has line breaks
 * where its appender put them between tokens.
 *
 * One event has one text, wherever its envelope comes from: fields are in the order of {@link EncodedEnvelope}, the keys of
 * `correlation` sorted. The inverse is {@link fromJson}.
 */
export const toJson = (envelope: EncodedEnvelope): string => envelopeJson.toJson(envelope)

const envelopeFromJson = Schema.fromJsonString(schema(Schema.Unknown))
const decodeWire = Schema.decodeUnknownEffect(envelopeFromJson)

/** Reads one line written by {@link toJson} with its event as plain JSON; a line that is no envelope is a `SchemaError`. */
export const fromJson = (line: string) => decodeWire(line)

/** The room of all envelopes. */
const AllRoom = Schema.TaggedStruct("All", {})

/**
 * Where an envelope is fanned out live. A room is a route, never a permission: decide who may listen before
 * subscribing.
 */
export const Room = Schema.Union([
  Schema.TaggedStruct("Run", { runId: RunId }),
  Schema.TaggedStruct("Session", { sessionId: SessionId }),
  Schema.TaggedStruct("Agent", { agentId: AgentId }),
  Schema.TaggedStruct("Provider", { provider: Schema.String }),
  AllRoom,
])
export type Room = typeof Room.Type

export type RoomKind = Room["_tag"]

/** Which kinds of room are fed unless configured otherwise. */
export const defaultRooms: ReadonlyArray<RoomKind> = ["Run", "Session"]

/** The room's name as one string, the same in every process: `run:ID`, `session:ID`, `agent:ID`, `provider:NAME`, `all`. */
export const roomName = (room: Room): string => {
  switch (room._tag) {
    case "Run":
      return `run:${room.runId}`
    case "Session":
      return `session:${room.sessionId}`
    case "Agent":
      return `agent:${room.agentId}`
    case "Provider":
      return `provider:${room.provider}`
    case "All":
      return "all"
  }
}

/** The rooms of the given kinds that an envelope belongs to. */
export const roomsOf = (envelope: Routing, kinds: ReadonlyArray<RoomKind>): Array<Room> => {
  const rooms: Array<Room> = []
  for (const kind of kinds) {
    if (kind === "Run") rooms.push({ _tag: "Run", runId: envelope.runId })
    else if (kind === "Session" && envelope.sessionId !== undefined) {
      rooms.push({ _tag: "Session", sessionId: envelope.sessionId })
    } else if (kind === "Agent" && envelope.agentId !== undefined) {
      rooms.push({ _tag: "Agent", agentId: envelope.agentId })
    } else if (kind === "Provider" && envelope.provider !== undefined) {
      rooms.push({ _tag: "Provider", provider: envelope.provider })
    } else if (kind === "All") rooms.push({ _tag: "All" })
  }
  return rooms
}

/** What a subscriber's queue does with frames that don't fit; each is told in full by `SubscriberQueue`. */
export const OverflowPolicy = Schema.Literals([
  "dropNonTerminal",
  "dropProgress",
  "summarize",
  "failSubscriber",
  "backpressure",
])
export type OverflowPolicy = typeof OverflowPolicy.Type

/** Where to read what a subscriber did not get: the run after a cursor, or the archive after a position. */
export const RepairPlace = Schema.Struct({
  /** The run of the first frame that was lost. */
  runId: RunId,
  /** The run cursor to read that run after. */
  after: Schema.String,
  /**
   * The position to read the archive after, where the frames had one: below that of every frame lost, and every frame
   * offered since the subscriber was detached, whatever their order and run. Some frames after it may have been received.
   */
  position: Schema.optionalKey(Schema.Int),
  /** Of a subscriber of the bus: the bus cursor of the frame it got before, which the same subscription goes on from. */
  cursor: Schema.optionalKey(Schema.String),
})
export type RepairPlace = typeof RepairPlace.Type

/** Frames that a subscriber's queue lost: all between two that it delivered, in order. */
export const OverflowNotice = Schema.Struct({
  policy: OverflowPolicy,
  /**
   * Why the first of them was lost. `queueFull`: it didn't fit, or left so that another fits. `summaryFull`: the pending
   * summary was past `summaryBytes`. `notMergeable`: it would have joined the summary, and its vocabulary can't merge it.
   */
  reason: Schema.Literals(["queueFull", "summaryFull", "notMergeable"]),
  /** Original frames lost; a frame that was merged from several counts as all of them. */
  frames: Schema.Int,
  /** How many of each `kind`; past 64 kinds the rest are under `other`. */
  kinds: Schema.Record(Schema.String, Schema.Int),
  /** The cursor of the first frame lost. */
  first: Schema.String,
  /** The cursor of the last frame lost. */
  last: Schema.String,
  repair: RepairPlace,
  /** Whether every terminal frame is still delivered; false only in `TerminalOverflow` and in a `Gap`. */
  terminalsSurvived: Schema.Boolean,
})
export type OverflowNotice = typeof OverflowNotice.Type

/** The frames that a merged one stands for. */
export interface Merged {
  readonly firstSeq: number
  readonly lastSeq: number
  /** How many; fewer than the seqs span where the subscriber doesn't get every event of the run. */
  readonly frames: number
}

/** What a live subscriber receives: an envelope, its run cursor (`<seq>-<generation>`) and, on stores with an archive, its store-wide position. */
export interface Frame {
  readonly _tag: "Frame"
  readonly envelope: EncodedEnvelope
  readonly cursor: string
  readonly position?: number
  /** What was lost between the frame delivered before and this one. */
  readonly notice?: OverflowNotice
  /** Present on a frame merged under pressure; its envelope, cursor and position are the last one's. */
  readonly merged?: Merged
}

/** Frames may be missing from here on; whoever needs them all reads the store. */
export interface Gap {
  readonly _tag: "Gap"
  /** `overflow`: the subscriber's buffer was full. `reconnected`: the live path was down. */
  readonly reason: "overflow" | "reconnected"
  /** What is missing, where it is known. */
  readonly notice?: OverflowNotice
}
