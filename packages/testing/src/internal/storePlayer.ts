/**
 * Plays a generated history on a store and on the model, and compares: every answer, and what a reader finds after it.
 */
import * as Cursor from "@throughline/core/Cursor"
import type { EncodedEnvelope, EncodedEvent, Frame, RunId, SessionId } from "@throughline/core/Envelope"
import { type AppendRequest, type AppendResult, EventStore, type LeaseRequest } from "@throughline/core/EventStore"
import type { RunHead } from "@throughline/core/RunHead"
import { type Bounds, defaultBounds, type StoreOptions } from "@throughline/core/StoreOptions"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import * as Law from "../Law.ts"
import * as StoreHistory from "./storeHistory.ts"
import * as StoreModel from "./storeModel.ts"

export const runIds = ["run-0", "run:1", "Run_2.x"] as ReadonlyArray<string> as ReadonlyArray<RunId>
export const sessionIds = ["chat-0", "chat-1"] as ReadonlyArray<string> as ReadonlyArray<SessionId>
const producerIds = ["writer", "other writer"]

const vocabularies = [
  { name: "law", version: 3 },
  { name: "law", version: 4 },
  { name: "lore", version: 3 },
] as const

export const runIdOf = (run: number): RunId => runIds[run]!

/** Runs as the model has them, and what was seen of the store so far. */
export interface World {
  readonly rules: StoreModel.Rules
  readonly runs: Map<RunId, StoreModel.Run>
  /** Generations of runs that were removed, newest last. */
  readonly pastGenerations: Map<RunId, Array<string>>
  /** The highest position seen in an answer. */
  lastPosition: number
  /** Frames in the order they were written. */
  readonly frames: Array<Frame>
  events: number
  /** Those that tried to append so far. */
  readonly producerIds: Set<string>
  readonly reach: Law.Reach
}

export const makeWorld = (options: StoreOptions | undefined, reach: Law.Reach): World => {
  const bounds: Bounds = { ...defaultBounds, ...options?.bounds }
  return {
    rules: { bounds, eventsPerRun: options?.retention?.eventsPerRun },
    runs: new Map(),
    pastGenerations: new Map(),
    lastPosition: 0,
    frames: [],
    events: 0,
    producerIds: new Set(),
    reach,
  }
}

const nextEvent = (world: World, shape: StoreHistory.EventShape, endsRun?: EncodedEvent["endsRun"]): EncodedEvent =>
  StoreHistory.event(++world.events, shape, endsRun)

const leaseOf = (world: World, shape: StoreHistory.LeaseShape): LeaseRequest => ({
  ttl: Duration.seconds(shape.ttl),
  ...(shape.will === "none" ? undefined : { will: nextEvent(world, StoreHistory.plain, "failed") }),
})

/** The promised fields of an error; its `reason` by tag. */
const refusalOf = (
  error: { readonly _tag: string },
  expected: StoreModel.Refusal,
): Readonly<Record<string, unknown>> => {
  const actual = error as unknown as Readonly<Record<string, unknown>>
  return Object.fromEntries(
    Object.keys(expected).map((key) => {
      const value = actual[key]
      return [key, key === "reason" ? (value as { readonly _tag?: unknown } | undefined)?._tag : value]
    }),
  )
}

/** Breaks the law unless the answer is one of the expected errors. */
export const refusedAs = (
  what: string,
  actual: Result.Result<unknown, { readonly _tag: string }>,
  anyOf: ReadonlyArray<StoreModel.Refusal>,
): Effect.Effect<void, Law.LawBroken> => {
  if (Result.isFailure(actual)) {
    const { failure } = actual
    if (anyOf.some((expected) => Equal.equals(refusalOf(failure, expected), expected))) return Effect.void
  }
  const is = Result.isFailure(actual) ? actual.failure : { answered: actual.success }
  return Law.broken(
    `${what}\n  is:        ${Formatter.format(is)}\n  should be: ${anyOf.map((one) => Formatter.format(one)).join("\n  or:        ")}`,
  )
}

/** Checks frames against envelopes and takes in the generation and positions they show. */
const learnFrames = Effect.fnUntraced(function* (
  world: World,
  run: StoreModel.Run,
  frames: ReadonlyArray<Frame>,
  isNew: boolean,
) {
  const generation = run.generation ?? frames[0]?.cursor.split("-")[1]
  yield* Law.holds(
    generation !== undefined && Cursor.generationPattern.test(generation),
    () => `${generation} is no generation`,
  )
  yield* Law.holds(
    run.generation !== undefined || !(world.pastGenerations.get(run.runId) ?? []).includes(generation!),
    () => `run ${run.runId} was removed and has generation ${generation} again`,
  )
  for (const frame of frames) {
    yield* Law.same("the cursor of an appended frame", frame.cursor, Cursor.run(frame.envelope.seq, generation!))
    if (!isNew || frame.position === undefined) continue
    yield* Law.holds(
      frame.position > world.lastPosition,
      () => `position ${frame.position} was given after position ${world.lastPosition}`,
    )
    world.lastPosition = frame.position
  }
  if (isNew) world.frames.push(...frames)
  return generation
})

/** The run's head and its lease's version, which must rise with each claim and stay otherwise. */
const checkHead = Effect.fnUntraced(function* (world: World, runId: RunId, claimed: boolean) {
  const store = yield* EventStore
  const head = yield* store.head(runId)
  const run = world.runs.get(runId)
  if (run?.lease !== undefined && claimed) {
    const version = head.lease?.version ?? 0
    const { lease } = run
    yield* Law.holds(
      version > lease.version,
      () => `the lease of run ${runId} has version ${version} after a claim, and had ${lease.version} before`,
    )
    world.runs.set(runId, { ...run, lease: { ...lease, version } })
  }
  yield* Law.same(`the head of run ${runId}`, head, StoreModel.headOf(runId, world.runs.get(runId)))
})

/** Producers as the store remembers them. */
const checkProducers = Effect.fnUntraced(function* (world: World, runId: RunId) {
  const store = yield* EventStore
  for (const id of world.producerIds) {
    const known = world.runs.get(runId)?.producers.get(id)
    yield* Law.same(
      `producer ${id} of run ${runId}`,
      yield* store.producer(runId, id),
      known === undefined
        ? Option.none()
        : Option.some({ epoch: known.epoch, lastNumber: known.lastNumber, lastSeq: known.lastSeq }),
    )
  }
})

const checkAppended = Effect.fnUntraced(function* (
  world: World,
  what: string,
  actual: Result.Result<AppendResult, { readonly _tag: string }>,
  expected: StoreModel.Appended,
  claimed: boolean,
) {
  if (Result.isFailure(actual)) {
    return yield* Law.broken(`${what}\n  is:        ${Formatter.format(actual.failure)}\n  should be: an answer`)
  }
  const { frames } = actual.success
  yield* Law.same(
    what,
    frames.map((frame): EncodedEnvelope => frame.envelope) as ReadonlyArray<EncodedEnvelope>,
    expected.envelopes,
  )
  const before = world.runs.get(expected.run.runId)
  const isNew = StoreModel.lastSeq(before) < StoreModel.lastSeq(expected.run)
  const generation = yield* learnFrames(world, expected.run, frames, isNew)
  world.runs.set(expected.run.runId, { ...expected.run, generation })
  yield* checkHead(world, expected.run.runId, claimed)
  yield* checkProducers(world, expected.run.runId)
})

/** Sends an append to both and compares; a refused one must leave all as it was. */
export const append = Effect.fnUntraced(function* (world: World, request: AppendRequest) {
  const store = yield* EventStore
  const now = yield* Clock.currentTimeMillis
  const before = world.runs.get(request.runId)
  if (request.producer !== undefined) world.producerIds.add(request.producer.id)
  const expected = StoreModel.append(before, request, now, world.rules)
  const actual = yield* Effect.result(store.append(request))
  const what = `the answer to ${Formatter.format(request)}`
  if (expected._tag === "Appended") {
    const isNew = StoreModel.lastSeq(before) < StoreModel.lastSeq(expected.run)
    if (!isNew) world.reach("a repeat")
    if (expected.run.ending !== undefined) world.reach("an end")
    if (expected.run.firstSeq > 1) world.reach("trimming")
    yield* checkAppended(world, what, actual, expected, isNew && request.lease !== undefined)
  } else {
    if (expected._tag === "Refused") {
      for (const { _tag } of expected.anyOf) world.reach(_tag)
      const { expectedGeneration, expectedSeq } = request
      const isOther = expectedSeq === StoreModel.lastSeq(before) && expectedGeneration !== before?.generation
      if (isOther && before !== undefined && expectedGeneration !== undefined) world.reach("a run begun anew")
      yield* refusedAs(what, actual, expected.anyOf)
    } else if (Result.isFailure(actual) && actual.failure._tag !== "ProducerMismatch") {
      return yield* Law.broken(`${what} is ${Formatter.format(actual.failure)}`)
    }
    yield* checkHead(world, request.runId, false)
    yield* checkProducers(world, request.runId)
  }
})

const changed = (
  world: World,
  events: ReadonlyArray<EncodedEvent>,
  turn: StoreHistory.Turn,
): ReadonlyArray<EncodedEvent> => {
  const last = events[events.length - 1]!
  const others = events.slice(0, -1)
  switch (turn) {
    case "changedText":
      return [...others, { ...last, event: `${last.event} ` as EncodedEvent["event"] }]
    case "changedId":
      return [...others, { ...last, eventId: nextEvent(world, StoreHistory.plain).eventId }]
    case "changedTags":
      return [...others, { ...last, tags: [...last.tags, "changed"] }]
    case "shorter":
      return others.length > 0 ? others : [{ ...last, kind: "Other" }]
    case "longer":
      return [nextEvent(world, StoreHistory.plain), ...events]
    default:
      return events
  }
}

const producerOf = (known: StoreModel.Producer | undefined, command: NonNullable<StoreHistory.Append["producer"]>) => {
  const epoch = known?.epoch ?? 1
  const last = command.epoch === "raised" ? 0 : (known?.lastNumber ?? 0)
  const number =
    { next: last + 1, older: Math.max(1, last - 1), skip: last + 2 }[command.turn as "next"] ?? Math.max(1, last)
  return {
    id: producerIds[command.id]!,
    epoch: { same: epoch, raised: epoch + 1, older: Math.max(1, epoch - 1) }[command.epoch],
    number,
  }
}

/** A generation that isn't the run's: the one before, if there was one. */
const staleGeneration = (world: World, runId: RunId): string => world.pastGenerations.get(runId)?.at(-1) ?? "00000000"

const expectedOf = (
  world: World,
  runId: RunId,
  expected: StoreHistory.Append["expected"],
): Pick<AppendRequest, "expectedSeq" | "expectedGeneration"> => {
  const run = world.runs.get(runId)
  const head = StoreModel.lastSeq(run)
  const behind = Math.max(0, head - 1)
  const expectedGeneration = run?.generation ?? staleGeneration(world, runId)
  switch (expected) {
    case "no":
      return {}
    case "head":
      return { expectedSeq: head }
    case "behind":
      return { expectedSeq: behind }
    case "ahead":
      return { expectedSeq: head + 3 }
    case "guarded":
      return { expectedSeq: head, expectedGeneration }
    case "guardedBehind":
      return { expectedSeq: behind, expectedGeneration }
    case "stale":
      return { expectedSeq: head, expectedGeneration: staleGeneration(world, runId) }
  }
}

const requestOf = (world: World, command: StoreHistory.Append): AppendRequest => {
  const runId = runIdOf(command.run)
  const run = world.runs.get(runId)
  const id = command.producer && producerIds[command.producer.id]!
  const known = id === undefined ? undefined : run?.producers.get(id)
  const ends = command.ends === "no" ? undefined : command.ends
  const fresh = (): ReadonlyArray<EncodedEvent> =>
    command.events.map((shape, index) =>
      nextEvent(world, shape, index === command.events.length - 1 ? ends : undefined),
    )
  const isNext = command.producer === undefined || command.producer.turn === "next" || known === undefined
  const sessionId = command.session === undefined ? undefined : sessionIds[command.session]!
  return {
    runId,
    vocabulary: vocabularies[command.vocabulary]!,
    events: isNext ? fresh() : changed(world, known.lastRequest.events, command.producer.turn),
    ...(command.producer === undefined ? undefined : { producer: producerOf(known, command.producer) }),
    ...expectedOf(world, runId, command.expected),
    ...(sessionId === undefined ? undefined : { sessionId }),
    ...(command.lease === undefined ? undefined : { lease: leaseOf(world, command.lease) }),
  }
}

/** A plain append of so many events. */
export const requestFor = (world: World, run: number, events = 1): AppendRequest => ({
  runId: runIdOf(run),
  vocabulary: world.runs.get(runIdOf(run))?.vocabulary ?? vocabularies[0],
  events: Array.from({ length: events }, () => nextEvent(world, StoreHistory.plain)),
})

const spoiltRequestOf = (world: World, { fault, run }: StoreHistory.Spoilt): AppendRequest => {
  const { maxAppendEvents, maxEventBytes } = world.rules.bounds
  const next = (endsRun?: EncodedEvent["endsRun"]) => nextEvent(world, StoreHistory.plain, endsRun)
  // One byte over the bound, in two-byte characters.
  const oversize = (event: EncodedEvent): EncodedEvent => {
    const left = maxEventBytes - '{"text":""}'.length + 1
    const text = "ä".repeat(left >> 1) + "a".repeat(left & 1)
    return { ...event, event: JSON.stringify({ text }) as EncodedEvent["event"] }
  }
  const plain = { runId: runIdOf(run), vocabulary: vocabularies[0], events: [next()] }
  switch (fault) {
    case "noEvents":
      return { ...plain, events: [] }
    case "tooManyEvents":
      return { ...plain, events: Array.from({ length: maxAppendEvents + 1 }, () => next()) }
    case "eventAfterEnd":
      return { ...plain, events: [next(), next("completed"), next()] }
    case "oversize":
      return { ...plain, events: [next(), oversize(next())] }
    case "expectedSeq":
      return { ...plain, expectedSeq: -1 }
    case "expectedGeneration":
      return { ...plain, expectedSeq: 0, expectedGeneration: "" }
    case "generationAlone":
      return { ...plain, expectedGeneration: "00000000" }
    case "epoch":
      return { ...plain, producer: { id: producerIds[0]!, epoch: 0, number: 1 } }
    case "number":
      return { ...plain, producer: { id: producerIds[0]!, epoch: 1, number: 1.5 } }
    case "producerId":
      return { ...plain, producer: { id: "", epoch: 1, number: 1 } }
    case "ttl":
      return { ...plain, lease: { ttl: 0 } }
    case "willThatEndsNothing":
      return { ...plain, lease: { ttl: "30 seconds", will: next() } }
    case "oversizeWill":
      return { ...plain, lease: { ttl: "30 seconds", will: oversize(next("failed")) } }
  }
}

const garbage = [
  "",
  "-1",
  "1.5",
  "abc",
  "1-",
  "1-ABCDEFGH",
  "01",
  " 1",
  "1-abcdefg",
  "1-abcdefgh9",
  "1e3",
  "99999999999999999",
]

const cursorOf = (world: World, command: StoreHistory.Read): Cursor.RunCursor | undefined => {
  const runId = runIdOf(command.run)
  const run = world.runs.get(runId)
  const head = StoreModel.lastSeq(run)
  const seq = Math.floor((head * command.place) / 8)
  const generation = run?.generation ?? "zzzzzzzz"
  switch (command.cursor) {
    case "none":
      return undefined
    case "seq":
      return seq
    case "text":
      return String(seq)
    case "guarded":
      return Cursor.run(seq, generation)
    case "ahead":
      return head + 1 + command.place
    case "guardedAhead":
      return Cursor.run(head + 1 + command.place, generation)
    case "stale":
      return Cursor.run(seq, staleGeneration(world, runId))
    case "garbage":
      return garbage[(command.place + head) % garbage.length]
  }
}

const pageBytes = (envelopes: ReadonlyArray<EncodedEnvelope>): number =>
  envelopes.reduce((bytes, envelope) => bytes + StoreModel.bytesOf(envelope), 0)

/** Reads a page and checks it, its bounds and its head. */
const readPage = Effect.fnUntraced(function* (
  world: World,
  runId: RunId,
  after: Cursor.RunCursor | undefined,
  limit: number,
) {
  const store = yield* EventStore
  const run = world.runs.get(runId)
  const actual = yield* Effect.result(store.read(after === undefined ? { runId, limit } : { runId, after, limit }))
  const what = `the page of run ${runId} after ${JSON.stringify(after)}, limit ${limit},`
  const place = yield* Effect.result(Cursor.runPlace(after))
  const refusal: StoreModel.Refusal | undefined = Result.isFailure(place)
    ? { _tag: "InvalidCursor" }
    : StoreModel.readRefusal(run, runId, place.success)
  if (refusal !== undefined) {
    world.reach(refusal._tag)
    yield* refusedAs(what, actual, [refusal])
    return []
  }
  if (Result.isFailure(actual)) return yield* Law.broken(`${what} is refused: ${Formatter.format(actual.failure)}`)
  const { envelopes, head } = actual.success
  const from = Result.isSuccess(place) ? place.success.seq : 0
  const { maxPageBytes, maxPageEvents } = world.rules.bounds
  yield* Law.same(what, envelopes, (run?.envelopes ?? []).slice(from, from + envelopes.length))
  yield* Law.same(`the head beside ${what}`, head, StoreModel.headOf(runId, run))
  yield* Law.holds(envelopes.length <= Math.min(limit, maxPageEvents), `${what} has ${envelopes.length} events`)
  yield* Law.holds(envelopes.length > 0 || from === StoreModel.lastSeq(run), `${what} is empty before the head`)
  yield* Law.holds(
    envelopes.length <= 1 || pageBytes(envelopes) <= maxPageBytes,
    () => `${what} has ${pageBytes(envelopes)} bytes, more than ${maxPageBytes}`,
  )
  if (envelopes.length > 0 && from + envelopes.length < StoreModel.lastSeq(run)) world.reach("a page before the head")
  return envelopes
})

const remove = Effect.fnUntraced(function* (world: World, runId: RunId) {
  const store = yield* EventStore
  const run = world.runs.get(runId)
  yield* Law.same(`whether run ${runId} was removed`, yield* store.remove(runId), run !== undefined)
  if (run !== undefined) {
    world.reach("a removal")
    world.runs.delete(runId)
    world.pastGenerations.set(runId, [...(world.pastGenerations.get(runId) ?? []), run.generation!])
  }
  yield* checkHead(world, runId, false)
  yield* checkProducers(world, runId)
})

const renew = Effect.fnUntraced(function* (world: World, command: StoreHistory.Renew) {
  const store = yield* EventStore
  const now = yield* Clock.currentTimeMillis
  const ids = command.runs.map(runIdOf)
  const lease = leaseOf(world, command.lease)
  const { refused, renewed } = yield* store.renew(ids, lease)
  const open = ids.filter((runId) => StoreModel.renew(world.runs.get(runId), lease, now) !== undefined)
  yield* Law.same("the runs renewed", new Set(renewed), new Set(open))
  yield* Law.same(
    "the runs whose renewal was refused",
    new Set(refused),
    new Set(ids.filter((id) => !open.includes(id))),
  )
  for (const runId of ids) {
    const run = StoreModel.renew(world.runs.get(runId), lease, now)
    if (run !== undefined) world.runs.set(runId, run)
    yield* checkHead(world, runId, run !== undefined)
  }
})

const appendWill = Effect.fnUntraced(function* (world: World, command: StoreHistory.AppendWill) {
  const store = yield* EventStore
  const now = yield* Clock.currentTimeMillis
  const runId = runIdOf(command.run)
  const run = world.runs.get(runId)
  const expected = {
    leaseVersion: (run?.lease?.version ?? 1) - (command.version === "right" ? 0 : 1),
    expectedSeq: Math.max(0, StoreModel.lastSeq(run) - (command.seq === "right" ? 0 : 1)),
  }
  const should = StoreModel.appendWill(run, runId, expected, now, world.rules)
  const actual = yield* Effect.result(store.appendWill(runId, expected))
  const what = `the answer to appendWill(${runId}, ${Formatter.format(expected)})`
  if (should._tag === "Appended") {
    world.reach("a will")
    return yield* checkAppended(world, what, actual, should, false)
  }
  for (const { _tag, problem } of should.anyOf) world.reach(typeof problem === "string" ? problem : _tag)
  yield* refusedAs(what, actual, should.anyOf)
  yield* checkHead(world, runId, false)
})

const positionOf = (result: AppendResult): number => result.frames[0]!.position ?? 0

const endAbandoned = Effect.fnUntraced(function* (world: World, command: StoreHistory.EndAbandoned) {
  const store = yield* EventStore
  const now = yield* Clock.currentTimeMillis
  const idleFor = Duration.seconds(command.idleFor)
  const { eventId: _, ...event } = nextEvent(world, StoreHistory.plain, "cancelled")
  const results = yield* store.endAbandoned({ idleFor, event })
  const ended = new Map(results.map((result) => [result.frames[0]?.envelope.runId, result] as const))
  const should = [...world.runs.values()].filter((run) => StoreModel.isAbandoned(run, Duration.toMillis(idleFor), now))
  yield* Law.same("the runs ended", new Set(ended.keys()), new Set(should.map((run) => run.runId)))
  const eventIds = new Set(results.map((result) => result.frames[0]!.envelope.eventId))
  yield* Law.same("event ids among the runs ended", eventIds.size, should.length)
  for (const [runId, result] of [...ended].toSorted(([, left], [, right]) => positionOf(left) - positionOf(right))) {
    const { eventId } = result.frames[0]!.envelope
    const expected = StoreModel.end(world.runs.get(runId!)!, { ...event, eventId }, now, world.rules)
    world.reach("an abandoned run")
    yield* checkAppended(world, `the end of run ${runId}`, Result.succeed(result), expected, false)
  }
})

const list = Effect.fnUntraced(function* (world: World, command: StoreHistory.List) {
  const store = yield* EventStore
  const sessionId = command.session === undefined ? undefined : sessionIds[command.session]!
  const listed: Array<RunHead> = []
  for (let pages = 0; pages <= world.runs.size; pages++) {
    const last = listed[listed.length - 1]
    const page = yield* store.runs({
      limit: command.limit,
      ...(sessionId === undefined ? undefined : { sessionId }),
      ...(command.status === undefined ? undefined : { status: command.status }),
      ...(last === undefined ? undefined : { before: { runId: last.runId, startedAt: last.startedAt! } }),
    })
    yield* Law.holds(page.length <= command.limit, `a page of ${page.length} runs, limit ${command.limit}`)
    if (page.length === 0) break
    if (last !== undefined) world.reach("a second page of runs")
    listed.push(...page)
  }
  const should = [...world.runs.values()]
    .map((run) => StoreModel.headOf(run.runId, run))
    .filter((head) => sessionId === undefined || head.sessionId === sessionId)
    .filter((head) => command.status === undefined || head.status === command.status)
  yield* Law.same("the number of runs listed", listed.length, should.length)
  yield* Law.same("the runs listed", new Set(listed), new Set(should))
  for (let index = 1; index < listed.length; index++) {
    yield* Law.holds(
      listed[index - 1]!.startedAt! >= listed[index]!.startedAt!,
      "runs are not listed last started first",
    )
  }
})

const step = (world: World, command: StoreHistory.Command): Effect.Effect<unknown, unknown, EventStore> => {
  switch (command._tag) {
    case "Append":
      return append(world, requestOf(world, command))
    case "Spoilt":
      return append(world, spoiltRequestOf(world, command))
    case "Read":
      return readPage(world, runIdOf(command.run), cursorOf(world, command), command.limit)
    case "Remove":
      return remove(world, runIdOf(command.run))
    case "Renew":
      return renew(world, command)
    case "AppendWill":
      return appendWill(world, command)
    case "EndAbandoned":
      return endAbandoned(world, command)
    case "Wait":
      return TestClock.adjust(Duration.seconds(command.seconds))
    case "List":
      return list(world, command)
  }
}

/** Everything a reader can find, page by page, guarded and not. */
const checkWhole = Effect.fnUntraced(function* (world: World, limit: number) {
  for (const runId of runIds) {
    const run = world.runs.get(runId)
    yield* checkHead(world, runId, false)
    yield* checkProducers(world, runId)
    let seq = (run?.firstSeq ?? 1) - 1
    for (let guarded = false; seq < StoreModel.lastSeq(run); guarded = !guarded) {
      seq += (yield* readPage(world, runId, guarded ? Cursor.run(seq, run!.generation!) : seq, limit)).length
    }
    yield* readPage(world, runId, seq, limit)
  }
  yield* list(world, { _tag: "List", session: undefined, status: undefined, limit: 1000 })
})

/** Plays a history; breaks the law at the first answer that isn't the model's, or if the whole isn't at the end. */
export const play = Effect.fnUntraced(function* (world: World, history: ReadonlyArray<StoreHistory.Command>) {
  for (const command of history) yield* step(world, command)
  yield* checkWhole(world, 3)
})
