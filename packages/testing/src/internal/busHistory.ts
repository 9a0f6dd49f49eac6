/** Histories of a bus: what is stored, when it is published, and filters that some of it matches. */
import type {
  AgentId,
  Delivery,
  EncodedEvent,
  EventId,
  EventJson,
  Routing,
  RunId,
  SessionId,
} from "@throughline/core/Envelope"
import type { EventFilter } from "@throughline/core/EventFilter"
import * as Arbitrary from "effect/Arbitrary"
import * as Generator from "../Generator.ts"

/** An event to be, by small numbers. */
export interface Shape {
  readonly run: number
  /** 0: without. */
  readonly agent: number
  readonly turn: number
  readonly kind: number
  readonly delivery: Delivery
  readonly tags: ReadonlyArray<string>
  readonly keys: ReadonlyArray<string>
}

export const runIdOf = (run: number): RunId => `run:${run}` as RunId

/** Two runs share a session; the last run has none. */
export const sessionIdOf = (run: number): SessionId | undefined =>
  run >= 3 ? undefined : (`session.${run >> 1}` as SessionId)

export const agentIdOf = (agent: number): AgentId => `agent_${agent}` as AgentId

const turnIdOf = (turn: number): string => `turn ${turn}`
const kindOf = (kind: number): string => `Kind${kind}`

const deliveryOf = Generator.weighted<Delivery>([
  [3, "progress"],
  [3, "normal"],
  [2, "terminal"],
])

const evenly = <const A>(values: ReadonlyArray<A>): Arbitrary.Arbitrary<A> =>
  Generator.weighted(values.map((value) => [1, value] as const))

export const shape: Arbitrary.Arbitrary<Shape> = Arbitrary.all({
  run: evenly([0, 1, 2, 3]),
  agent: evenly([0, 1, 2]),
  turn: evenly([0, 1, 2]),
  kind: evenly([0, 1, 2]),
  delivery: deliveryOf,
  tags: evenly<ReadonlyArray<string>>([[], ["red"], ["red", "blue"], ["blue", "blue"], [""]]),
  keys: evenly<ReadonlyArray<string>>([[], ["job"], ["job", "__proto__"], ["toString"]]),
})

/** The event number `n` of a history, ready to be appended. */
export const eventOf = (n: number, { agent, delivery, keys, kind, tags, turn }: Shape): EncodedEvent => ({
  eventId: `00000000-0000-7000-8000-${n.toString(16).padStart(12, "0")}` as EventId,
  ...(agent === 0 ? undefined : { agentId: agentIdOf(agent) }),
  ...(turn === 0 ? undefined : { turnId: turnIdOf(turn) }),
  kind: kindOf(kind),
  delivery,
  emittedAt: "2026-01-31T09:30:00.000Z",
  tags,
  // From entries, so that `__proto__` is a key like any other.
  correlation: Object.fromEntries(keys.map((key) => [key, "value"])),
  event: `{"n":${n}}` as EventJson,
})

/** How a field of a filter is written: not at all, empty, or as a set with the anchor's value and others, in any order. */
interface FieldPlan {
  readonly how: "absent" | "empty" | "only" | "others" | "backwards"
}

const fieldPlan: Arbitrary.Arbitrary<FieldPlan["how"]> = Generator.weighted([
  [10, "absent"],
  [1, "empty"],
  [3, "only"],
  [2, "others"],
  [1, "backwards"],
])

/** A filter that its anchor matches. */
export interface FilterPlan {
  readonly anchor: Shape
  readonly fields: Readonly<
    Record<"runs" | "sessions" | "agents" | "turns" | "kinds" | "delivery" | "tags" | "keys", FieldPlan["how"]>
  >
  readonly terminalOnly: boolean
}

export const filterPlan: Arbitrary.Arbitrary<FilterPlan> = Arbitrary.all({
  anchor: shape,
  fields: Arbitrary.all({
    runs: fieldPlan,
    sessions: fieldPlan,
    agents: fieldPlan,
    turns: fieldPlan,
    kinds: fieldPlan,
    delivery: fieldPlan,
    tags: fieldPlan,
    keys: fieldPlan,
  }),
  terminalOnly: Generator.weighted([
    [5, false],
    [1, true],
  ]),
})

const valuesFor = <A>(how: FieldPlan["how"], anchor: A | undefined, others: ReadonlyArray<A>): Array<A> | undefined => {
  if (how === "absent" || anchor === undefined) return undefined
  if (how === "empty") return []
  if (how === "only") return [anchor]
  return how === "others" ? [...others, anchor] : [anchor, anchor, ...others.toReversed()]
}

/** The filter of a plan; `turned` writes the same meaning in another order, with doubles. */
export const filterOf = ({ anchor, fields, terminalOnly }: FilterPlan, turned = false): EventFilter => {
  const values = <A>(how: FieldPlan["how"], value: A | undefined, others: ReadonlyArray<A>) => {
    const written = valuesFor(how, value, others)
    return turned && written !== undefined ? [...written, ...written].toReversed() : written
  }
  const filter: EventFilter = {
    runIds: values(fields.runs, runIdOf(anchor.run), [runIdOf(1), runIdOf(9)]),
    sessionIds: values(fields.sessions, sessionIdOf(anchor.run), ["session.1" as SessionId]),
    agentIds: values(fields.agents, anchor.agent === 0 ? undefined : agentIdOf(anchor.agent), [agentIdOf(1)]),
    turnIds: values(fields.turns, anchor.turn === 0 ? undefined : turnIdOf(anchor.turn), [turnIdOf(2)]),
    kinds: values(fields.kinds, kindOf(anchor.kind), [kindOf(0), "Other"]),
    delivery: values(fields.delivery, terminalOnly ? "terminal" : anchor.delivery, ["normal"] as Array<Delivery>),
    tags: values(fields.tags, anchor.tags[0], ["green", "blue"]),
    correlationKeys: values(fields.keys, anchor.keys[0], ["valueOf"]),
    terminalOnly,
  }
  // Absent, empty and undefined mean the same: any.
  return turned ? Object.fromEntries(Object.entries(filter).toReversed()) : filter
}

/** The anchor as it matches the filter of its plan. */
export const anchorOf = ({ anchor, terminalOnly }: FilterPlan): Shape =>
  terminalOnly ? { ...anchor, delivery: "terminal" } : anchor

const meets = <A>(wanted: ReadonlyArray<A> | undefined, values: ReadonlyArray<A | undefined>): boolean =>
  wanted === undefined || wanted.length === 0 || wanted.some((value) => values.includes(value))

/** What a filter says, read plainly. */
export const means = (filter: EventFilter, envelope: Routing): boolean =>
  meets(filter.runIds, [envelope.runId]) &&
  meets(filter.sessionIds, [envelope.sessionId]) &&
  meets(filter.agentIds, [envelope.agentId]) &&
  meets(filter.turnIds, [envelope.turnId]) &&
  meets(filter.kinds, [envelope.kind]) &&
  meets(filter.delivery, [envelope.delivery]) &&
  meets(filter.tags, envelope.tags) &&
  meets(filter.correlationKeys, Object.keys(envelope.correlation)) &&
  (filter.terminalOnly !== true || envelope.delivery === "terminal")

/** What a subscriber subscribes to. */
export type Subscription =
  | { readonly by: "all" }
  | { readonly by: "run" | "session" | "agent"; readonly of: number }
  | { readonly by: "filter"; readonly plan: FilterPlan }

export const subscription: Arbitrary.Arbitrary<Subscription> = Generator.frequency<Subscription>([
  [1, Arbitrary.all({ by: Arbitrary.Constant("all" as const) })],
  [1, Arbitrary.all({ by: Arbitrary.Constant("run" as const), of: evenly([0, 1, 2, 3]) })],
  [1, Arbitrary.all({ by: Arbitrary.Constant("session" as const), of: evenly([0, 2]) })],
  [1, Arbitrary.all({ by: Arbitrary.Constant("agent" as const), of: evenly([1, 2]) })],
  [4, Arbitrary.all({ by: Arbitrary.Constant("filter" as const), plan: filterPlan })],
])

export const filterOfSubscription = (subscribed: Subscription): EventFilter => {
  switch (subscribed.by) {
    case "all":
      return {}
    case "run":
      return { runIds: [runIdOf(subscribed.of)] }
    case "session":
      return { sessionIds: [sessionIdOf(subscribed.of)!] }
    case "agent":
      return { agentIds: [agentIdOf(subscribed.of)] }
    case "filter":
      return filterOf(subscribed.plan)
  }
}

/** The terminal event that tells a subscriber's reader to stop: it matches whatever the subscriber wants. */
export const lastShapeOf = (subscribed: Subscription): Shape => {
  const plain: Shape = { run: 0, agent: 1, turn: 1, kind: 0, delivery: "terminal", tags: [], keys: [] }
  switch (subscribed.by) {
    case "all":
      return plain
    case "run":
    case "session":
      return { ...plain, run: subscribed.of }
    case "agent":
      return { ...plain, agent: subscribed.of }
    case "filter":
      return anchorOf(subscribed.plan)
  }
}

/**
 * What happens to a bus. `store` appends events of one run; they wait to be published in the order of their run, but not
 * of the store. `publish` publishes what the run number `pick` of those that wait has first. `foreign` is stored by another
 * process and never published here. `again` publishes frames that were published before.
 */
export type Command =
  | { readonly _tag: "Store"; readonly shapes: ReadonlyArray<Shape>; readonly foreign: boolean }
  | { readonly _tag: "Publish"; readonly pick: number }
  | { readonly _tag: "Again"; readonly back: number }

export const commands = (options: {
  /** Of 13 commands, how many are stored by another process. */
  readonly foreign?: number
  /** And how many publish again. */
  readonly again?: number
}): Arbitrary.Arbitrary<ReadonlyArray<Command>> => {
  const shapes = Arbitrary.array(shape, { minLength: 1, maxLength: 3 })
  return Arbitrary.array(
    Generator.frequency<Command>([
      [6, Arbitrary.all({ _tag: Arbitrary.Constant("Store" as const), shapes, foreign: Arbitrary.Constant(false) })],
      [
        options.foreign ?? 0,
        Arbitrary.all({ _tag: Arbitrary.Constant("Store" as const), shapes, foreign: Arbitrary.Constant(true) }),
      ],
      [6, Arbitrary.all({ _tag: Arbitrary.Constant("Publish" as const), pick: Generator.int(0, 3) })],
      [options.again ?? 0, Arbitrary.all({ _tag: Arbitrary.Constant("Again" as const), back: Generator.int(1, 4) })],
    ]),
    { maxLength: 40 },
  )
}
