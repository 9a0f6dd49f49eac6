/**
 * Which rooms this process listens to on one connection, and who listens there.
 *
 * ```text
 *  begin ──▶ asked ──ack──▶ in place ──▶ freed (the last subscriber left)
 *              ▲               │
 *              └─── ready ◀── lost: the connection closed; its subscribers stay, and get a gap once it is in place again
 * ```
 *
 * All of it is synchronous: Redis carries out what a connection sends in order, so a room that is freed and taken again
 * needs nothing but that `UNSUBSCRIBE` and `SUBSCRIBE` are sent as the steps here are taken.
 */
import type { EncodedEnvelope, Frame, Room } from "@throughline/core/Envelope"
import type { AdapterUnavailable } from "@throughline/core/StreamAdapter"
import type { SubscriberQueue } from "@throughline/core/SubscriberQueue"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as RedisFrame from "../RedisFrame.ts"

/** How a connection is told; a request that fails says whether the next connection may carry it out. */
export interface Wire {
  readonly subscribe: (channel: string, onAnswer: (refusal: Refusal | undefined) => void) => void
  readonly unsubscribe: (channel: string) => void
}

export interface Refusal {
  readonly error: AdapterUnavailable
  /** The connection was lost, so all rooms are asked for again. */
  readonly isLost: boolean
}

interface Subscriber {
  readonly queue: SubscriberQueue<AdapterUnavailable, AdapterUnavailable>
  /** It has been told that it is subscribed. */
  isInPlace: boolean
}

interface Listened {
  readonly room: Room
  readonly channel: string
  readonly subscribers: Set<Subscriber>
  /** What Redis answers, or has answered; `undefined` while there is no connection. */
  asked: Deferred.Deferred<void, AdapterUnavailable> | undefined
}

interface Subscription {
  /** Returns once Redis has acknowledged it. */
  readonly inPlace: Effect.Effect<void, AdapterUnavailable>
  readonly remove: () => void
}

export interface Subscriptions {
  readonly add: (room: Room, channel: string, queue: Subscriber["queue"]) => Subscription
  readonly receive: (channel: string, message: string) => void
  /** The connection is gone. */
  readonly lost: () => void
  /** There is a connection again. */
  readonly ready: () => void
  /** There will be none. */
  readonly end: (error: AdapterUnavailable) => void
}

const isIn = (room: Room, envelope: EncodedEnvelope): boolean => {
  switch (room._tag) {
    case "Run":
      return envelope.runId === room.runId
    case "Session":
      return envelope.sessionId === room.sessionId
    case "Agent":
      return envelope.agentId === room.agentId
    case "Provider":
      return envelope.provider === room.provider
    case "All":
      return true
  }
}

/** The frames in a message; `undefined` where it is none of this room's. */
const framesIn = (room: Room, message: string): ReadonlyArray<Frame> | undefined => {
  const frames = RedisFrame.decode(message)
  return Result.isSuccess(frames) && frames.success.every(({ envelope }) => isIn(room, envelope))
    ? frames.success
    : undefined
}

/** The subscriptions of a connection; `down` is what who subscribes while it is lost is told. */
export const make = (wire: Wire, down: () => AdapterUnavailable): Subscriptions => {
  const rooms = new Map<string, Listened>()

  /** Who was subscribed before the connection was lost waits for the next one; the others are told by a failure. */
  const keepOrForget = (listened: Listened): void => {
    listened.asked = undefined
    for (const { isInPlace } of listened.subscribers) if (isInPlace) return
    rooms.delete(listened.channel)
  }

  const forget = (listened: Listened, error: AdapterUnavailable): void => {
    rooms.delete(listened.channel)
    for (const { queue } of listened.subscribers) queue.fail(error)
  }

  const settle = (listened: Listened, refusal: Refusal | undefined): void => {
    if (refusal !== undefined) {
      if (refusal.isLost) keepOrForget(listened)
      else forget(listened, refusal.error)
      return
    }
    for (const subscriber of listened.subscribers) {
      if (subscriber.isInPlace) subscriber.queue.gap("reconnected")
      subscriber.isInPlace = true
    }
  }

  const ask = (listened: Listened): void => {
    const asked = Deferred.makeUnsafe<void, AdapterUnavailable>()
    listened.asked = asked
    wire.subscribe(listened.channel, (refusal) => {
      // Else the room was freed, or the connection lost: the answer is about nothing any more.
      if (listened.asked === asked && rooms.get(listened.channel) === listened) settle(listened, refusal)
      Deferred.doneUnsafe(asked, refusal === undefined ? Effect.void : Effect.fail(refusal.error))
    })
  }

  const find = (room: Room, channel: string): Listened => {
    const present = rooms.get(channel)
    if (present !== undefined) return present
    const listened: Listened = { room, channel, subscribers: new Set(), asked: undefined }
    rooms.set(channel, listened)
    ask(listened)
    return listened
  }

  return {
    add: (room, channel, queue) => {
      const listened = find(room, channel)
      const subscriber: Subscriber = { queue, isInPlace: false }
      const { asked } = listened
      if (asked !== undefined) {
        subscriber.isInPlace = Deferred.isDoneUnsafe(asked)
        listened.subscribers.add(subscriber)
      }
      return {
        inPlace: asked === undefined ? Effect.suspend(() => Effect.fail(down())) : Deferred.await(asked),
        remove: () => {
          if (!listened.subscribers.delete(subscriber) || listened.subscribers.size > 0) return
          if (rooms.get(channel) !== listened) return
          rooms.delete(channel)
          if (listened.asked !== undefined) wire.unsubscribe(channel)
        },
      }
    },
    receive: (channel, message) => {
      const listened = rooms.get(channel)
      if (listened === undefined) return
      const frames = framesIn(listened.room, message)
      for (const { queue } of listened.subscribers) {
        if (frames === undefined) queue.gap("overflow")
        else queue.offerAll(frames)
      }
    },
    lost: () => {
      for (const listened of rooms.values()) keepOrForget(listened)
    },
    ready: () => {
      for (const listened of rooms.values()) ask(listened)
    },
    end: (error) => {
      for (const listened of rooms.values()) forget(listened, error)
    },
  }
}
