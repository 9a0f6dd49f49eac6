import { type ArchiveEvent, type ArchiveItem, EventArchive } from "@throughline/core/EventArchive"
import { EventStore, layerMemory } from "@throughline/core/EventStore"
import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as EventArchiveLaws from "@throughline/testing/EventArchiveLaws"
import type * as Law from "@throughline/testing/Law"
import * as Mutant from "@throughline/testing/Mutant"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"

type Store = EventStore["Service"]
type Archive = EventArchive["Service"]
type ArchiveMutant = Mutant.Mutant<EventStore | EventArchive, StoreOptions>

/** The memory store and archive with some of their methods replaced. */
const mutant = (
  bug: string,
  law: Law.Law<EventStore | EventArchive, StoreOptions>,
  wrap: (archive: Archive, store: Store) => { readonly replay?: Archive["replay"]; readonly store?: Partial<Store> },
): ArchiveMutant => ({
  bug,
  law: law.name,
  subject: (options) =>
    Layer.effectContext(
      Effect.gen(function* () {
        const archive = yield* EventArchive
        const store = yield* EventStore
        const wrapped = wrap(archive, store)
        return Context.make(EventStore, { ...store, ...wrapped.store }).pipe(
          Context.add(EventArchive, { ...archive, ...(wrapped.replay && { replay: wrapped.replay }) }),
        )
      }),
    ).pipe(Layer.provide(layerMemory(options))),
})

/** Every replay with its items changed as a whole. */
const mapItems =
  (f: (items: ReadonlyArray<ArchiveItem>) => ReadonlyArray<ArchiveItem>) =>
  (archive: Archive): { readonly replay: Archive["replay"] } => ({
    replay: (request) =>
      Stream.unwrap(Effect.map(Stream.runCollect(archive.replay(request)), (items) => Stream.fromIterable(f(items)))),
  })

const isNextOf = (runId: string) => (item: ArchiveItem) => item._tag === "Event" && item.envelope.runId === runId

const byRun = (items: ReadonlyArray<ArchiveItem>): ReadonlyArray<ArchiveItem> =>
  items.toSorted((left, right) =>
    left._tag === "Event" && right._tag === "Event" ? left.envelope.runId.localeCompare(right.envelope.runId) : 0,
  )

const mutants: ReadonlyArray<ArchiveMutant> = [
  mutant("replays run by run", EventArchiveLaws.ordered, mapItems(byRun)),
  mutant("gives the positions of removed runs again", EventArchiveLaws.ordered, (_, store) => {
    let removed = 0
    return {
      store: {
        append: (request) =>
          Effect.map(store.append(request), (result) => ({
            ...result,
            frames: result.frames.map((frame) => ({ ...frame, position: frame.position! - removed })),
          })),
        remove: (runId) =>
          Effect.gen(function* () {
            removed += (yield* Effect.orDie(store.head(runId))).lastSeq
            return yield* store.remove(runId)
          }),
      },
    }
  }),
  mutant("replays runs that were removed", EventArchiveLaws.ordered, (archive, store) => {
    const kept: Array<ArchiveItem> = []
    return {
      replay: (request) => Stream.concat(Stream.fromIterable([...kept]), archive.replay(request)),
      store: {
        remove: (runId) =>
          Effect.gen(function* () {
            const items = yield* Effect.orDie(Stream.runCollect(archive.replay({ filter: { runIds: [runId] } })))
            kept.push(...items.filter((item) => item._tag === "Event"))
            return yield* store.remove(runId)
          }),
      },
    }
  }),
  mutant("resumes at its cursor instead of after it", EventArchiveLaws.resumed, (archive) => {
    const seen = new Map<string, ArchiveEvent>()
    return {
      replay: (request) => {
        const at = request.after === undefined ? undefined : seen.get(request.after)
        return Stream.concat(
          Stream.fromIterable(at === undefined ? [] : [at]),
          archive
            .replay(request)
            .pipe(Stream.tap((item) => Effect.sync(() => item._tag === "Event" && seen.set(item.cursor, item)))),
        )
      },
    }
  }),
  mutant("stays where nothing matches", EventArchiveLaws.checkpointed, (archive) => {
    const positions = new Map<string, number>()
    return {
      replay: (request) =>
        Stream.unwrap(
          Effect.map(Stream.runCollect(archive.replay(request)), (items) => {
            const checkpoint = items[items.length - 1]!
            if (items.length > 1 || checkpoint._tag !== "Checkpoint") return Stream.fromIterable(items)
            const position = request.after === undefined ? checkpoint.position : positions.get(request.after)
            const cursor = request.after ?? checkpoint.cursor
            positions.set(cursor, position ?? checkpoint.position)
            return Stream.succeed({ ...checkpoint, cursor, position: position ?? checkpoint.position })
          }),
        ),
    }
  }),
  mutant("puts its checkpoint where the store is by the time it gets there", EventArchiveLaws.followed, (archive) => ({
    replay: (request) =>
      archive
        .replay(request)
        .pipe(
          Stream.mapEffect((item) =>
            item._tag === "Checkpoint"
              ? Effect.map(Stream.runLast(archive.replay({ filter: request.filter })), (last) =>
                  last._tag === "Some" ? last.value : item,
                )
              : Effect.succeed(item),
          ),
        ),
  })),
  mutant(
    "says nothing of trimmed history",
    EventArchiveLaws.truncated,
    mapItems((items) => items.filter((item) => item._tag !== "Truncated")),
  ),
  mutant(
    "tells trimmed history beside the run's next event, past cursors that were not told",
    EventArchiveLaws.truncated,
    mapItems((items) => {
      const told = items.filter((item) => item._tag === "Truncated")
      const others = items.filter((item) => item._tag !== "Truncated")
      for (const item of told) others.splice(others.findIndex(isNextOf(item.runId)), 0, item as never)
      return others
    }),
  ),
  mutant(
    "forgets trimmed history where the run's next event is far",
    EventArchiveLaws.truncatedFar,
    mapItems((items) =>
      items.filter(
        (item, index) => item._tag !== "Truncated" || items.slice(index, index + 900).some(isNextOf(item.runId)),
      ),
    ),
  ),
  mutant("tells trimmed history as of the replay's start", EventArchiveLaws.trimmedMeanwhile, (archive, store) => ({
    replay: (request) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const firstSeqs = new Map((yield* store.runs({ limit: 100 })).map((head) => [head.runId, head.firstSeq]))
          return archive
            .replay(request)
            .pipe(Stream.filter((item) => item._tag !== "Truncated" || item.to < (firstSeqs.get(item.runId) ?? 1)))
        }),
      ),
  })),
  mutant("takes the cursor of another filter", EventArchiveLaws.scoped, (archive) => ({
    replay: ({ after, filter }) =>
      Stream.catchTag(archive.replay({ after, filter }), "CursorScopeMismatch", () => archive.replay({ filter })),
  })),
  mutant("starts over where it can't read a cursor", EventArchiveLaws.unaltered, (archive) => ({
    replay: ({ after, filter }) =>
      Stream.catchTag(archive.replay({ after, filter }), "InvalidCursor", () => archive.replay({ filter })),
  })),
]

Mutant.suite("EventArchive", EventArchiveLaws.laws, mutants)
