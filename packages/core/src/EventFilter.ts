/**
 * Filters over envelope fields. Empty means any.
 *
 * A filter is plain JSON, so it can come over a wire ({@link decode}). It compiles once to a predicate that allocates
 * nothing, to the indexed fields it uses, and to a fingerprint: same meaning, same fingerprint, whatever order it was
 * written in.
 *
 * **Example** (The ends of two agents' tool calls)
 *
 * ```ts
 * import * as Envelope from "@throughline/core/Envelope"
 * import type * as EventFilter from "@throughline/core/EventFilter"
 *
 * export const toolResults: EventFilter.EventFilter = {
 *   agentIds: [Envelope.AgentId.make("planner"), Envelope.AgentId.make("coder")],
 *   kinds: ["ToolExecutionFinished"],
 *   terminalOnly: true,
 * }
 * ```
 */
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import type { Scope } from "./Cursor.ts"
import { AgentId, Delivery, type Routing, RunId, SessionId } from "./Envelope.ts"

/** Values in one field at most. */
export const maxValues = 1000

/** UTF-16 units of one turn id, kind, tag or correlation key at most. */
export const maxValueLength = 256

const Text = Schema.String.check(Schema.isMaxLength(maxValueLength))

const setOf = <S extends Schema.Constraint>(value: S) =>
  Schema.optional(Schema.Array(value).check(Schema.isMaxLength(maxValues)))

/** Which envelopes: every field that is given must match; an absent or empty field matches any. */
export const EventFilter = Schema.Struct({
  runIds: setOf(RunId),
  sessionIds: setOf(SessionId),
  agentIds: setOf(AgentId),
  turnIds: setOf(Text),
  kinds: setOf(Text),
  delivery: setOf(Delivery),
  /** Envelopes with at least one of these tags. */
  tags: setOf(Text),
  /** Envelopes whose correlation has at least one of these keys. */
  correlationKeys: setOf(Text),
  /** Only envelopes with delivery `terminal`; a `delivery` that leaves those out is refused beside it. */
  terminalOnly: Schema.optional(Schema.Boolean),
})
export type EventFilter = typeof EventFilter.Type

/** The filter is none, is too large, or could never match anything. `field` says where; empty: the filter as a whole. */
export class InvalidFilter extends Schema.TaggedError<InvalidFilter>("@throughline/core/EventFilter/InvalidFilter")(
  "InvalidFilter",
  { field: Schema.String, problem: Schema.String },
) {
  override get message() {
    return this.field === ""
      ? `the filter is invalid: ${this.problem}`
      : `the filter's ${this.field} is invalid: ${this.problem}`
  }
}

/** Envelope fields that subscribers can be found by, the most selective first. */
export type IndexedField = "runIds" | "sessionIds" | "agentIds" | "kinds"

/** A filter ready to match. */
export interface Matcher {
  /** The filter's canonical form: fields that match any are left out, values are sorted and without doubles. */
  readonly filter: EventFilter
  readonly matches: (envelope: Routing) => boolean
  /** Whether envelopes of a run can match at all, as far as the run's own fields tell. */
  readonly matchesRun: (run: Pick<Routing, "runId" | "sessionId">) => boolean
  /** The indexed fields that the filter uses. */
  readonly indexed: ReadonlyArray<IndexedField>
}

/** A filter ready to match, with its identity. */
export interface CompiledFilter extends Matcher {
  /**
   * What the filter's cursors are cut for: its fingerprint, but for a filter that is just one run, session or agent, or
   * everything.
   */
  readonly scope: Scope
}

/** The filter that matches everything. */
export const all: EventFilter = {}

const decodeFilter = Schema.decodeUnknownResult(EventFilter, { onExcessProperty: "error" })
const issuesOf = SchemaIssue.makeFormatterStandardSchemaV1()

const validate = (input: unknown): Result.Result<EventFilter, InvalidFilter> =>
  Result.mapError(decodeFilter(input), ({ issue }) => {
    const first = issuesOf(issue).issues[0]
    const field = first?.path?.[0]
    return new InvalidFilter({
      field: typeof field === "string" ? field : "",
      problem: first?.message ?? "it doesn't fit the schema",
    })
  })

/** The filter in a JSON value from outside; a field that filters don't have is refused, as it would be ignored. */
export const decode = (input: unknown): Effect.Effect<EventFilter, InvalidFilter> =>
  Effect.fromResult(Result.flatMap(validate(input), (filter) => Result.map(canonicalOf(filter), () => filter)))

const sorted = <A extends string>(values: ReadonlyArray<A> | undefined): ReadonlyArray<A> | undefined =>
  values === undefined || values.length === 0 ? undefined : [...new Set(values)].toSorted()

/** The delivery classes left, `undefined` for any. */
const deliveryOf = ({ delivery, terminalOnly }: EventFilter): ReadonlyArray<Delivery> | undefined => {
  const given = sorted(delivery)
  if (terminalOnly === true) return given === undefined || given.includes("terminal") ? ["terminal"] : []
  return given?.length === Delivery.literals.length ? undefined : given
}

/** The same keys in the same order for the same meaning: its JSON is what the fingerprint is taken of. */
const canonicalOf = (filter: EventFilter): Result.Result<EventFilter, InvalidFilter> => {
  const delivery = deliveryOf(filter)
  if (delivery?.length === 0) {
    const problem = "delivery leaves out terminal, so nothing could match"
    return Result.fail(new InvalidFilter({ field: "terminalOnly", problem }))
  }
  const fields = {
    runIds: sorted(filter.runIds),
    sessionIds: sorted(filter.sessionIds),
    agentIds: sorted(filter.agentIds),
    turnIds: sorted(filter.turnIds),
    kinds: sorted(filter.kinds),
    delivery,
    tags: sorted(filter.tags),
    correlationKeys: sorted(filter.correlationKeys),
  }
  return Result.succeed(
    Object.fromEntries(Object.entries(fields).filter(([, values]) => values !== undefined)) as EventFilter,
  )
}

type Test = (envelope: Routing) => boolean

const oneOf = (
  values: ReadonlyArray<string> | undefined,
  field: "runId" | "sessionId" | "agentId" | "turnId" | "kind" | "delivery",
): Test | undefined => {
  if (values === undefined) return undefined
  if (values.length === 1) {
    const only = values[0]!
    return (envelope) => envelope[field] === only
  }
  const set = new Set<string | undefined>(values)
  return (envelope) => set.has(envelope[field])
}

const anyTag = (tags: ReadonlyArray<string> | undefined): Test | undefined => {
  if (tags === undefined) return undefined
  const set = new Set(tags)
  return (envelope) => {
    for (let index = 0; index < envelope.tags.length; index++) if (set.has(envelope.tags[index]!)) return true
    return false
  }
}

const anyKey = (keys: ReadonlyArray<string> | undefined): Test | undefined =>
  keys &&
  ((envelope) => {
    for (let index = 0; index < keys.length; index++) if (Object.hasOwn(envelope.correlation, keys[index]!)) return true
    return false
  })

const both =
  (left: Test, right: Test): Test =>
  (envelope) =>
    left(envelope) && right(envelope)

const every = (tests: ReadonlyArray<Test | undefined>): Test =>
  tests
    .filter((test) => test !== undefined)
    .reduceRight<Test | undefined>((rest, test) => (rest === undefined ? test : both(test, rest)), undefined) ??
  (() => true)

const indexedFields: ReadonlyArray<IndexedField> = ["runIds", "sessionIds", "agentIds", "kinds"]

const matcherOf = (form: EventFilter): Matcher => {
  const runTests = [oneOf(form.runIds, "runId"), oneOf(form.sessionIds, "sessionId")]
  const eventTests = [
    oneOf(form.agentIds, "agentId"),
    oneOf(form.turnIds, "turnId"),
    oneOf(form.kinds, "kind"),
    oneOf(form.delivery, "delivery"),
    anyTag(form.tags),
    anyKey(form.correlationKeys),
  ]
  return {
    filter: form,
    matches: every([...runTests, ...eventTests]),
    // Its tests only look at what the run says of itself.
    matchesRun: every(runTests) as Matcher["matchesRun"],
    indexed: indexedFields.filter((field) => form[field] !== undefined),
  }
}

/** The matcher of one run, session or agent, or of everything. */
export const forScope = (scope: Exclude<Scope["kind"], "Filter">, id: string): Matcher => {
  switch (scope) {
    case "All":
      return matcherOf(all)
    // The caller has the id as a brand; the scope keeps it as text.
    case "Run":
      return matcherOf({ runIds: [id as RunId] })
    case "Session":
      return matcherOf({ sessionIds: [id as SessionId] })
    case "Agent":
      return matcherOf({ agentIds: [id as AgentId] })
  }
}

/** The scope of a filter that needs no fingerprint to be told from others. */
const plainScope = (form: EventFilter): Scope | undefined => {
  const fields = Object.keys(form)
  if (fields.length === 0) return { kind: "All", id: "" }
  if (fields.length === 1) {
    const { agentIds, runIds, sessionIds } = form
    if (runIds?.length === 1) return { kind: "Run", id: runIds[0]! }
    if (sessionIds?.length === 1) return { kind: "Session", id: sessionIds[0]! }
    if (agentIds?.length === 1) return { kind: "Agent", id: agentIds[0]! }
  }
  return undefined
}

const canonical = (filter: EventFilter): Effect.Effect<EventFilter, InvalidFilter> =>
  Effect.fromResult(Result.flatMap(validate(filter), canonicalOf))

const digestOf = (filter: EventFilter): Effect.Effect<string, never, Digest.Digest> =>
  Effect.flatMap(Digest.Digest, (digest) =>
    digest.digestHex(Digest.sha256, new TextEncoder().encode(JSON.stringify(filter))),
  )

/** SHA-256 of the canonical form in lowercase hexadecimal: the same for filters that mean the same. */
export const fingerprint = (filter: EventFilter): Effect.Effect<string, InvalidFilter, Digest.Digest> =>
  Effect.flatMap(canonical(filter), digestOf)

/** Compiles a filter, once for all the envelopes it is to match. */
export const compile = Effect.fnUntraced(function* (
  filter: EventFilter,
): Effect.fn.Return<CompiledFilter, InvalidFilter, Digest.Digest> {
  const form = yield* canonical(filter)
  return { ...matcherOf(form), scope: plainScope(form) ?? { kind: "Filter", id: yield* digestOf(form) } }
})
