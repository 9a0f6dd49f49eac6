/** Who listens where, and which frames each of them has been given: by `publish` in this process, or from the file. */
import { type Frame, type Gap, type Room, type RoomKind, roomName, roomsOf } from "@throughline/core/Envelope"
import type { AdapterUnavailable } from "@throughline/core/StreamAdapter"
import type { SubscriberQueue } from "@throughline/core/SubscriberQueue"
import * as PositionRanges from "./positionRanges.ts"

interface Subscriber {
  readonly queue: SubscriberQueue<AdapterUnavailable, AdapterUnavailable>
  /** Frames up to this position don't come from the file. */
  readonly from: number
}

export interface Rooms {
  readonly add: (room: Room, queue: Subscriber["queue"]) => Subscriber
  readonly remove: (room: Room, subscriber: Subscriber) => void
  readonly publish: (rooms: ReadonlyArray<Room>, frames: ReadonlyArray<Frame>) => void
  /** The positions that are to be read from the file now; `undefined` where nobody needs them from there. */
  readonly begin: (
    head: number,
  ) => { readonly after: number; readonly until: number; readonly rooms: Iterable<Room> } | undefined
  /** What was read; all positions up to those of `begin` are done. */
  readonly end: (frames: ReadonlyArray<Frame>) => void
  readonly gap: (reason: Gap["reason"]) => void
  readonly fail: (error: AdapterUnavailable) => void
}

/** Rooms of a file that has been read up to `head`; the file feeds rooms of the given kinds. */
export const make = (kinds: ReadonlyArray<RoomKind>, head: number): Rooms => {
  const rooms = new Map<string, { readonly room: Room; readonly subscribers: Set<Subscriber> }>()
  /** What is after `read` up to `reading` is being read. */
  let read = head
  let reading = head
  /** After `reading`: published here in every room that the file feeds. */
  const published = PositionRanges.make()
  const onlyRunAndSession = kinds.every((kind) => kind === "Run" || kind === "Session")

  const everyone = function* () {
    for (const { subscribers } of rooms.values()) yield* subscribers
  }

  /** Notes the frames that the file need not be read for. */
  const note = (targets: ReadonlyArray<Room>, frames: ReadonlyArray<Frame>): void => {
    const names = new Set(targets.map(roomName))
    const isEverywhere = (frame: Frame) => roomsOf(frame.envelope, kinds).every((room) => names.has(roomName(room)))
    // Frames of one publish are of one run, so of one session.
    if (onlyRunAndSession && !isEverywhere(frames[0]!)) return
    for (const frame of frames) {
      const { position } = frame
      if (position !== undefined && position > reading && (onlyRunAndSession || isEverywhere(frame))) {
        published.add(position)
      }
    }
  }

  const offer = (subscriber: Subscriber, frames: ReadonlyArray<Frame>, fed: boolean): void => {
    const last = frames[frames.length - 1]!.position
    // What the file has been read for has come from it, or is about to.
    const fromFile = ({ position }: Frame) =>
      position !== undefined && position > subscriber.from && position <= reading
    const some = fed && last !== undefined && last > subscriber.from && frames.some(fromFile)
    const rest = some ? frames.filter((frame) => !fromFile(frame)) : frames
    if (rest.length > 0) subscriber.queue.offerAll(rest)
  }

  return {
    add: (room, queue) => {
      const name = roomName(room)
      const subscriber = { queue, from: Math.max(reading, published.last()) }
      const present = rooms.get(name)
      if (present === undefined) rooms.set(name, { room, subscribers: new Set([subscriber]) })
      else present.subscribers.add(subscriber)
      return subscriber
    },
    remove: (room, subscriber) => {
      const name = roomName(room)
      const present = rooms.get(name)
      if (present?.subscribers.delete(subscriber) === true && present.subscribers.size === 0) rooms.delete(name)
    },
    publish: (targets, frames) => {
      if (frames.length === 0) return
      for (const target of targets) {
        const present = rooms.get(roomName(target))
        if (present === undefined) continue
        const fed = kinds.includes(target._tag)
        for (const subscriber of present.subscribers) offer(subscriber, frames, fed)
      }
      note(targets, frames)
    },
    begin: (until) => {
      const after = read
      if (until <= after) return undefined
      // From here on `publish` leaves what is up to there to the read.
      const covered = published.covers(after, until)
      reading = until
      const listening = Array.from(rooms.values(), ({ room }) => room).filter(({ _tag }) => kinds.includes(_tag))
      if (!covered && listening.length > 0) return { after, until, rooms: listening }
      read = until
      published.dropUpTo(until)
      return undefined
    },
    end: (frames) => {
      const given = new Map<Subscriber, Array<Frame>>()
      for (const frame of frames) {
        const position = frame.position!
        if (published.has(position)) continue
        for (const room of roomsOf(frame.envelope, kinds)) {
          for (const subscriber of rooms.get(roomName(room))?.subscribers ?? []) {
            if (position <= subscriber.from) continue
            const list = given.get(subscriber)
            if (list === undefined) given.set(subscriber, [frame])
            else list.push(frame)
          }
        }
      }
      for (const [{ queue }, list] of given) queue.offerAll(list)
      read = reading
      published.dropUpTo(read)
    },
    gap: (reason) => {
      for (const { queue } of everyone()) queue.gap(reason)
    },
    fail: (error) => {
      for (const { queue } of everyone()) queue.fail(error)
    },
  }
}
