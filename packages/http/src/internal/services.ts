/** What the endpoints work with, gathered once when the routes are mounted. */
import type { EventArchive } from "@throughline/core/EventArchive"
import type { EventBus } from "@throughline/core/EventBus"
import type { EventStore } from "@throughline/core/EventStore"
import type { RoomKind } from "@throughline/core/Envelope"
import type { StreamAdapter } from "@throughline/core/StreamAdapter"
import type { SubscriptionHub } from "@throughline/core/SubscriptionHub"
import type { Vocabulary } from "@throughline/core/Vocabulary"
import type { SecureRandom } from "effect/crypto/SecureRandom"
import type * as Scope from "effect/Scope"
import type { Bounds } from "../Bounds.ts"
import type { Streams } from "../Streams.ts"
import type { LiveFrames } from "./sseFrame.ts"
import type { Waiting } from "./waiting.ts"

// oxlint-disable-next-line no-explicit-any -- the routes never name the type of an event, so any vocabulary will do
export type AnyVocabulary = Vocabulary<any>

export interface Services {
  readonly store: EventStore["Service"]
  readonly hub: SubscriptionHub["Service"]
  readonly adapter: StreamAdapter["Service"]
  /** Where the store has one. */
  readonly archive: EventArchive["Service"] | undefined
  /** Where there is one: what is appended here is on it too. */
  readonly bus: EventBus["Service"] | undefined
  readonly random: SecureRandom["Service"]
  readonly streams: Streams["Service"]
  readonly frames: LiveFrames
  readonly waiting: Waiting
  readonly vocabularies: ReadonlyArray<AnyVocabulary>
  readonly bounds: Bounds
  readonly rooms: ReadonlyArray<RoomKind>
  /** What was begun for a request and must be brought to its end without it. */
  readonly scope: Scope.Scope
}
