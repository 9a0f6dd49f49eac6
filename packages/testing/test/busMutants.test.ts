import type { Frame } from "@throughline/core/Envelope"
import type { EventArchive } from "@throughline/core/EventArchive"
import {
  type BusItem,
  type BusOptions,
  EventBus,
  layer as layerBus,
  type RepairedItem,
} from "@throughline/core/EventBus"
import { layerMemory } from "@throughline/core/EventStore"
import * as Cursor from "@throughline/core/Cursor"
import * as EventBusLaws from "@throughline/testing/EventBusLaws"
import * as Mutant from "@throughline/testing/Mutant"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

type Bus = EventBus["Service"]

type Item = BusItem | RepairedItem
type AnySubscribe = (
  ...args: ReadonlyArray<unknown>
) => Effect.Effect<Stream.Stream<Item, unknown>, { readonly _tag: string }, Scope.Scope | EventArchive>

/** The bus with all of its ways to subscribe wrapped alike: their arguments differ and are handed on as they are. */
const subscribing = (bus: Bus, wrap: (subscribe: AnySubscribe) => AnySubscribe): Bus =>
  ({
    ...bus,
    subscribeAll: wrap(bus.subscribeAll as unknown as AnySubscribe),
    subscribeRun: wrap(bus.subscribeRun as unknown as AnySubscribe),
    subscribeSession: wrap(bus.subscribeSession as unknown as AnySubscribe),
    subscribeAgent: wrap(bus.subscribeAgent as unknown as AnySubscribe),
    subscribe: wrap(bus.subscribe as unknown as AnySubscribe),
  }) as unknown as Bus

/** The options among the arguments; a filter has none of their fields. */
const optionsOf = (
  args: ReadonlyArray<unknown>,
): { readonly cursor?: string; readonly repair?: boolean; readonly queue?: { readonly capacity?: number } } => {
  const last = args.at(-1)
  const isOptions =
    typeof last === "object" && last !== null && ["queue", "cursor", "repair"].some((key) => key in last)
  return isOptions ? last : {}
}

/** The arguments with another place in their cursor. */
const withCursor = (
  args: ReadonlyArray<unknown>,
  move: (place: Cursor.Place) => Cursor.Place,
): ReadonlyArray<unknown> => {
  const options = optionsOf(args)
  const decoded = options.cursor === undefined ? undefined : Cursor.decode(options.cursor)
  if (decoded === undefined || Result.isFailure(decoded)) return args
  const { place, scope } = decoded.success
  return [...args.slice(0, -1), { ...options, cursor: Cursor.encoder(scope)(move(place)) }]
}

const mutant = (
  bug: string,
  law: EventBusLaws.BusLaw,
  wrap: (bus: Bus) => Bus,
  configure: (options: BusOptions | undefined) => BusOptions | undefined = (options) => options,
): Mutant.Mutant<EventBusLaws.BusServices, BusOptions> => ({
  bug,
  law: law.name,
  subject: (options) =>
    Layer.effect(EventBus, Effect.map(EventBus, wrap)).pipe(
      Layer.provide(layerBus(configure(options))),
      Layer.provideMerge(layerMemory()),
    ),
})

Mutant.suite("EventBus", EventBusLaws.laws, [
  mutant("hands a run's subscribers the frames of all runs", EventBusLaws.scoped, (bus) => ({
    ...bus,
    subscribeRun: ((_runId: string, options: object) => bus.subscribeAll(options)) as unknown as Bus["subscribeRun"],
  })),
  mutant("publishes a frame that the ring has again", EventBusLaws.scoped, (bus) => {
    let renamed = 0
    const seen = new Set<string>()
    const rename = (frame: Frame): Frame => {
      const { runId, seq } = frame.envelope
      if (!seen.has(`${runId} ${seq}`)) {
        seen.add(`${runId} ${seq}`)
        return frame
      }
      return { ...frame, cursor: Cursor.run(seq, String(10_000_000 + renamed++)) }
    }
    return {
      ...bus,
      publish: (frames) => bus.publish(frames.map((frame) => (frame._tag === "Gap" ? frame : rename(frame)))),
    }
  }),
  mutant("takes cursors of any scope", EventBusLaws.scopes, (bus) =>
    subscribing(bus, (subscribe) => (...args) => {
      const { cursor } = optionsOf(args)
      return Effect.catchTag(subscribe(...args), "CursorScopeMismatch", () =>
        subscribe(...args.slice(0, -1), { ...optionsOf(args), cursor: undefined, was: cursor }),
      )
    }),
  ),
  mutant("gives the frame of a cursor again", EventBusLaws.resumed, (bus) =>
    subscribing(
      bus,
      (subscribe) =>
        (...args) =>
          subscribe(
            ...withCursor(args, (place) => (place._tag === "Bus" ? { ...place, place: place.place - 1 } : place)),
          ),
    ),
  ),
  mutant("says nothing when the ring has expired", EventBusLaws.resumed, (bus) =>
    subscribing(
      bus,
      (subscribe) =>
        (...args) =>
          Effect.map(
            subscribe(...args),
            Stream.filter((item: { readonly _tag: string }) => item._tag !== "LiveBufferExpired"),
          ),
    ),
  ),
  mutant("repairs from the ring alone", EventBusLaws.repaired, (bus) =>
    subscribing(bus, (subscribe) => (...args) => {
      const options = optionsOf(args)
      return options.repair === true
        ? subscribe(...args.slice(0, -1), { cursor: options.cursor, queue: { capacity: 10_000 } })
        : subscribe(...args)
    }),
  ),
  mutant(
    "repairs from the last position it has seen, whatever was missing before",
    EventBusLaws.repairedFromLive,
    (bus) =>
      subscribing(bus, (subscribe) => (...args) => {
        if (optionsOf(args).repair !== true) return subscribe(...args)
        const forgetful = withCursor(args, (place) => {
          if (place._tag !== "Bus" || place.repair === undefined) return place
          const position = place.repair.ahead.at(-1) ?? place.repair.position
          return { ...place, repair: { position, ahead: [] } }
        })
        return subscribe(...forgetful)
      }),
  ),
  mutant("hands on a terminal after a loss as a normal frame", EventBusLaws.terminals, (bus) =>
    subscribing(
      bus,
      (subscribe) =>
        (...args) =>
          Effect.map(
            subscribe(...args),
            Stream.map((item: Item): Item =>
              item._tag === "Frame" && item.notice !== undefined
                ? { ...item, envelope: { ...item.envelope, delivery: "normal" } }
                : item,
            ),
          ),
    ),
  ),
  mutant("publishes terminals alone once a subscriber may be stuck", EventBusLaws.apart, (bus) => {
    let stuck = false
    return {
      ...subscribing(bus, (subscribe) => (...args) => {
        stuck ||= (optionsOf(args).queue?.capacity ?? 64) < 64
        return subscribe(...args)
      }),
      publish: (frames) =>
        Effect.suspend(() =>
          bus.publish(
            stuck ? frames.filter((frame) => frame._tag === "Gap" || frame.envelope.delivery === "terminal") : frames,
          ),
        ),
    }
  }),
  mutant("keeps closed subscriptions in its index", EventBusLaws.nothingLeft, (bus) => {
    const forever = Scope.makeUnsafe()
    return subscribing(
      bus,
      (subscribe) =>
        (...args) =>
          Effect.provideService(subscribe(...args), Scope.Scope, forever),
    )
  }),
])
