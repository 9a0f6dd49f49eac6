/** Carries out a plan on a real Redis with real processes, and says what came of it. */
import { RunId } from "@throughline/core/Envelope"
import { EventArchive } from "@throughline/core/EventArchive"
import * as EventFilter from "@throughline/core/EventFilter"
import { EventStore } from "@throughline/core/EventStore"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Context from "effect/Context"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as RedisServer from "../../packages/redis/test/RedisServer.ts"
import * as Checker from "./Checker.ts"
import * as Journal from "./Journal.ts"
import * as Ledger from "./Ledger.ts"
import type * as Lines from "./Lines.ts"
import * as Plan from "./Plan.ts"
import * as Process from "./Process.ts"
import * as Received from "./Received.ts"
import * as TcpProxy from "./TcpProxy.ts"
import * as Workers from "./Workers.ts"

/** The suite could not be carried out to its end in time. */
export class Unfinished extends Data.TaggedError("Unfinished")<{ readonly state: string }> {
  override get message() {
    return `not done in time: ${this.state}`
  }
}

/** What was done and found. */
export interface Report {
  readonly problems: ReadonlyArray<Checker.Problem>
  readonly acknowledged: number
  readonly stored: number
  /** Deliveries to all readers. */
  readonly received: number
  readonly ends: { readonly own: number; readonly will: number }
  /** Events that producers gave up, by why. */
  readonly buried: Readonly<Record<string, number>>
  /** Faults that came while there was still work for them to hurt. */
  readonly faults: Readonly<Record<string, number>>
  /** Connections that each way of the proxies has met. */
  readonly met: Readonly<Record<TcpProxy.Way, number>>
}

const kindOf = (fault: Plan.Fault): string => (fault._tag === "Link" ? fault.way : fault._tag)

/** Counts what producers were acknowledged, as it comes. */
const progressOf = (paths: ReadonlyArray<string>) => {
  const tails = paths.map((path) => Journal.tail(path))
  let events = 0
  return () => {
    for (const tail of tails) for (const line of tail()) events += Ledger.parse(line)?.eventIds.length ?? 0
    return events
  }
}

const indices = (count: number) => Array.from({ length: count }, (_, index) => index)

const storedOf = Effect.fnUntraced(function* (runId: string) {
  const store = yield* EventStore
  const events: Array<Checker.Stored> = []
  for (;;) {
    const { envelopes } = yield* store.read({ runId: RunId.make(runId), after: events.length, limit: 1000 })
    if (envelopes.length === 0) return events
    for (const { endsRun, event, eventId, seq } of envelopes) {
      const said = JSON.parse(event) as Lines.Event
      events.push({
        seq,
        eventId,
        line: said._tag === "Line" ? said.number : undefined,
        end: endsRun === undefined ? undefined : said._tag === "Lost" ? "will" : "own",
      })
    }
  }
})

const replay = Effect.gen(function* () {
  const archive = yield* EventArchive
  const items = yield* Stream.runCollect(archive.replay({ filter: EventFilter.all }))
  return Array.from(items).flatMap((item): ReadonlyArray<Checker.Replayed> => {
    if (item._tag !== "Event") return []
    const { eventId, runId, seq } = item.envelope
    return [{ runId, seq, eventId, position: item.position }]
  })
})

/** What a reader was to read, and what it was given: of the runs, and of them again through each session. */
const receivedBy = ({ told }: Plan.Plan, directory: string, index: number) => {
  const { runs, sessions } = Received.read(Process.journalPath(directory, "reader", index))
  const readers: Array<readonly [string, Checker.Reader]> = [
    [`reader ${index}`, { runs, toRead: new Set(told.runs.map(({ runId }) => runId)) }],
  ]
  for (const session of Plan.readsSessions(index) ? Plan.sessionsOf(told) : []) {
    const toRead = told.runs.filter((run) => Plan.sessionOf(run) === session).map(({ runId }) => runId)
    const given = sessions.get(session)
    const isComplete = given?.isComplete === true
    const ofRun = (runId: string) => ({ events: given?.runs.get(runId)?.events ?? [], isComplete })
    const ofRuns = new Map(toRead.map((runId) => [runId, ofRun(runId)]))
    readers.push([`reader ${index} of ${session}`, { runs: ofRuns, toRead: new Set(toRead) }])
  }
  return readers
}

const evidenceOf = Effect.fnUntraced(function* (plan: Plan.Plan, directory: string) {
  const { runs } = plan.told
  const acknowledged: Array<Checker.Acknowledged> = []
  const buried: Record<string, number> = {}
  for (const index of indices(plan.size.producers)) {
    for (const line of Journal.read(Process.journalPath(directory, "producer", index))) {
      const append = Ledger.parse(line)
      if (append === undefined) {
        const [, , cause, count] = line.split(" ") as [string, string, string, string]
        buried[cause] = (buried[cause] ?? 0) + Number(count)
        continue
      }
      const { eventIds, firstSeq, runId } = append
      for (const [at, eventId] of eventIds.entries()) acknowledged.push({ runId, seq: firstSeq + at, eventId })
    }
  }
  const stored = new Map<string, ReadonlyArray<Checker.Stored>>()
  for (const { runId } of runs) stored.set(runId, yield* storedOf(runId))
  const evidence: Checker.Evidence = {
    planned: new Map(runs.map(({ lines, runId }) => [runId, lines])),
    stored,
    acknowledged,
    replayed: yield* replay,
    received: new Map(indices(plan.size.readers).flatMap((index) => receivedBy(plan, directory, index))),
  }
  return { evidence, buried }
})

const reportOf = (
  { buried, evidence }: Effect.Success<ReturnType<typeof evidenceOf>>,
  faults: Report["faults"],
  proxies: ReadonlyArray<TcpProxy.TcpProxy>,
): Report => {
  let stored = 0
  let received = 0
  const ends = { own: 0, will: 0 }
  for (const events of evidence.stored.values()) {
    stored += events.length
    const end = events[events.length - 1]?.end
    if (end !== undefined) ends[end]++
  }
  for (const { runs } of evidence.received.values()) for (const { events } of runs.values()) received += events.length
  const met = Object.fromEntries(
    Plan.ways.map((way) => [way, proxies.reduce((sum, proxy) => sum + proxy.met[way], 0)]),
  ) as Record<TcpProxy.Way, number>
  const problems = Checker.check(evidence)
  return { problems, acknowledged: evidence.acknowledged.length, stored, received, ends, buried, faults, met }
}

interface World {
  readonly server: RedisServer.RedisServer
  readonly services: Context.Context<EventStore | EventArchive>
  readonly store: EventStore["Service"]
  readonly workers: Readonly<Record<Workers.Role, ReadonlyArray<Workers.Worker>>>
  readonly proxies: Readonly<Record<Workers.Role, ReadonlyArray<TcpProxy.TcpProxy>>>
  readonly told: Plan.Told
  /** Producers that are stopped now. */
  readonly stopped: Set<number>
  /** How many events were acknowledged so far. */
  readonly progress: () => number
  /** Faults that are under way, for whoever asks why it takes so long. */
  readonly doing: Set<string>
}

/** Stops a producer in the middle of its runs until a will has ended one of them; whether there was one. */
const stopUntilTakenForDead = Effect.fnUntraced(function* ({ stopped, store, told, workers }: World, index: number) {
  const worker = workers.producer[index]!
  const heads = Effect.forEach(
    told.runs.filter((run) => run.producer === index && !run.isLeft),
    ({ runId }) => store.head(RunId.make(runId)),
  ).pipe(Effect.retry(Schedule.spaced("50 millis")))
  const running = Effect.map(heads, (found) => found.filter(({ status }) => status === "running"))
  const every = Schedule.spaced("100 millis")
  yield* Effect.repeat(Effect.zip(running, worker.isDone), {
    until: ([open, isDone]) => open.length > 0 || isDone,
    schedule: every,
  })
  stopped.add(index)
  yield* worker.signal("SIGSTOP")
  const open = new Set((yield* running).map(({ runId }) => runId))
  // None is open any more where the producer was between two lives and could not be stopped.
  const after = yield* heads.pipe(
    Effect.map((now) => now.filter(({ runId }) => open.has(runId))),
    Effect.repeat({
      until: (now) => now.some(({ status }) => status === "failed") || now.every(({ status }) => status !== "running"),
      schedule: every,
    }),
  )
  yield* worker.signal("SIGCONT")
  stopped.delete(index)
  return after.some(({ status }) => status === "failed")
})

/** Breaks a link, and waits a while for the fault to meet a connection; whether it did. */
const breakLink = Effect.fnUntraced(function* (proxy: TcpProxy.TcpProxy, way: TcpProxy.Way, millis: number) {
  const before = proxy.met[way]
  const isMet = Effect.sync(() => proxy.met[way] > before)
  const met = Effect.repeat(isMet, { until: (is) => is, schedule: Schedule.spaced("10 millis") })
  // Between two lives of its process a link has nothing to cut.
  const fault =
    way === "cut"
      ? Effect.repeat(proxy.cut, { until: () => isMet, schedule: Schedule.spaced("10 millis") })
      : proxy[way](millis)
  yield* Effect.timeoutOption(Effect.andThen(fault, met), "4 seconds")
  return yield* isMet
})

/** Does harm; `false`: nothing was left that it could have hurt. */
const carryOut = (world: World, fault: Plan.Fault) =>
  Effect.gen(function* () {
    const { proxies, server, workers } = world
    switch (fault._tag) {
      case "KillRedis": {
        yield* server.kill()
        yield* Effect.sleep(fault.downMillis)
        yield* server.start
        return true
      }
      case "KillProducer": {
        // Not one that is stopped: its next life would not be.
        const count = workers.producer.length
        const index = indices(count)
          .map((nth) => (fault.index + nth) % count)
          .find((one) => !world.stopped.has(one))
        if (index === undefined) return false
        if (fault.lateMillis !== undefined) yield* breakLink(proxies.producer[index]!, "late", fault.lateMillis)
        return yield* workers.producer[index]!.kill
      }
      case "KillReader":
        return yield* workers.reader[fault.index]!.kill
      case "StopProducer":
        return yield* stopUntilTakenForDead(world, fault.index)
      case "Link":
        return yield* breakLink(proxies[fault.of][fault.index]!, fault.way, fault.millis)
    }
  })

/** Starts everything that a plan needs. */
const open = Effect.fnUntraced(function* ({ size, told }: Plan.Plan, directory: string) {
  writeFileSync(Process.planPath(directory), JSON.stringify(told))
  const server = yield* RedisServer.make({ appendfsync: "always" })
  // Past the proxies, for looking; that it loses its connection is no news.
  const services = yield* Layer.build(Process.layerRedis(server.url))
  const startAll = (kind: Workers.Role, count: number) =>
    Effect.forEach(indices(count), (index) =>
      Effect.gen(function* () {
        const proxy = yield* TcpProxy.make(server.port)
        const worker = yield* Workers.start(kind, { directory, index, url: `redis://127.0.0.1:${proxy.port}` })
        return { proxy, worker }
      }),
    )
  const reader = yield* startAll("reader", size.readers)
  const producer = yield* startAll("producer", size.producers)
  const world: World = {
    server,
    services,
    store: Context.get(services, EventStore),
    told,
    stopped: new Set(),
    workers: { producer: producer.map(({ worker }) => worker), reader: reader.map(({ worker }) => worker) },
    proxies: { producer: producer.map(({ proxy }) => proxy), reader: reader.map(({ proxy }) => proxy) },
    progress: progressOf(producer.map((_, index) => Process.journalPath(directory, "producer", index))),
    doing: new Set(),
  }
  return world
})

/** Does all the harm of a plan, each when it is due; how often there was something to hurt, by kind. */
const carryOutAll = Effect.fnUntraced(function* (world: World, { faults }: Plan.Plan, log: (line: string) => void) {
  const started = performance.now()
  const counted: Record<string, number> = {}
  const produced = Effect.map(Effect.all(world.workers.producer.map(({ isDone }) => isDone)), (done) =>
    done.every(Boolean),
  )
  const isDue = (at: number) => Effect.map(produced, (isOver) => isOver || world.progress() >= at)
  const one = Effect.fnUntraced(function* (fault: Plan.Fault) {
    const what = JSON.stringify(fault)
    const at = `${((performance.now() - started) / 1000).toFixed(1)} s, ${world.progress()} events`
    const isLate = yield* produced
    world.doing.add(what)
    const hasHurt = (yield* carryOut(world, fault)) && !isLate
    world.doing.delete(what)
    const kind = kindOf(fault)
    if (hasHurt) counted[kind] = (counted[kind] ?? 0) + 1
    log(`${at}: ${what}${hasHurt ? "" : " (met nothing)"}`)
  })
  const aside: Array<Fiber.Fiber<void, Effect.Error<ReturnType<typeof one>>>> = []
  for (const { at, fault } of faults) {
    yield* Effect.repeat(isDue(at), { until: (is) => is, schedule: Schedule.spaced("20 millis") })
    // It takes as long as a lease and its grace; the rest of the world goes on.
    if (fault._tag === "StopProducer") aside.push(yield* Effect.forkChild(one(fault)))
    else yield* one(fault)
  }
  yield* Fiber.joinAll(aside)
  return counted
})

/** What there is to say of a world that isn't done in time. */
const unfinished = Effect.fnUntraced(function* ({ doing, progress, workers }: World) {
  const all = [...workers.producer, ...workers.reader]
  const busy = yield* Effect.filter(all, ({ isDone }) => Effect.map(isDone, (is) => !is))
  const names = busy.map(({ index, role }) => `${role} ${index}`)
  return yield* new Unfinished({
    state: `${progress()} events, ${[...doing].join() || "no fault"}; still busy: ${names.join()}`,
  })
})

/**
 * Carries out a plan; fails where a process fails, or where it isn't over within `deadline` ms.
 *
 * `log` is told what is done.
 */
export const run = Effect.fnUntraced(
  function* (plan: Plan.Plan, options: { readonly deadline: number; readonly log: (line: string) => void }) {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "throughline-chaos-"))),
      (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
    )
    const world = yield* open(plan, directory)
    const { proxies, server, services, workers } = world
    const completed = Effect.forEach([...workers.producer, ...workers.reader], ({ done }) => done, {
      concurrency: "unbounded",
      discard: true,
    })
    const [faults] = yield* Effect.all([carryOutAll(world, plan, options.log), completed], {
      concurrency: "unbounded",
    }).pipe(Effect.timeoutOrElse({ duration: options.deadline, orElse: () => unfinished(world) }))
    // What is on disk counts.
    yield* server.restart
    const found = yield* evidenceOf(plan, directory).pipe(
      Effect.provideContext(services),
      Effect.retry({
        schedule: Schedule.spaced("50 millis"),
        while: (error) => error._tag === "ReadFailed" && error.isRetryable,
      }),
    )
    return reportOf(found, faults, [...proxies.producer, ...proxies.reader])
  },
  // The processes say what they think of their connections; of this one's the suite knows.
  Effect.provideService(References.MinimumLogLevel, "Error"),
)
