import { describe, expect, it } from "@effect/vitest"
import * as Checker from "./Checker.ts"

type Events = Array<{ -readonly [Field in keyof Checker.Stored]: Checker.Stored[Field] }>

const line = (seq: number): Checker.Stored => ({ seq, eventId: `event-${seq}`, line: seq, end: undefined })

/** Two runs, the first ended by its producer and the second by its will, and a reader that saw both. */
const world = () => {
  const first: Events = [line(1), line(2), line(3), { ...line(4), line: undefined, end: "own" }]
  const second: Events = [line(1), line(2), { ...line(3), line: undefined, end: "will" }]
  const receivedOf = (events: Events) => ({
    events: events.map(({ eventId, seq }) => ({ seq, eventId })),
    isComplete: true,
  })
  const read = { first: receivedOf(first), second: receivedOf(second) }
  const acknowledged = (["first", "second"] as const).flatMap((runId) =>
    (runId === "first" ? first : second.slice(0, 2)).map(({ eventId, seq }) => ({ runId, seq, eventId })),
  )
  const replayed = [...first.entries()].flatMap(([index, event]) =>
    [event, second[index]].flatMap((one, run) =>
      one === undefined
        ? []
        : [
            {
              runId: run === 0 ? "first" : "second",
              seq: one.seq,
              eventId: one.eventId,
              position: 10 * index + run + 1,
            },
          ],
    ),
  )
  const evidence = (): Checker.Evidence => ({
    planned: new Map([
      ["first", 3],
      ["second", 8],
    ]),
    stored: new Map([
      ["first", first],
      ["second", second],
    ]),
    acknowledged,
    replayed,
    received: new Map([
      ["reader", { toRead: new Set(["first", "second"]), runs: new Map(Object.entries(read)) }],
      ["reader of one", { toRead: new Set(["second"]), runs: new Map([["second", read.second]]) }],
    ]),
  })
  return { first, second, read, acknowledged, replayed, evidence }
}

type World = ReturnType<typeof world>

const problemsAfter = (fault: (world: World) => void) => {
  const made = world()
  fault(made)
  return new Set(Checker.check(made.evidence()).map(({ problem }) => problem))
}

describe("the checker", () => {
  it("finds nothing where every promise was kept", () => {
    expect(problemsAfter(() => {})).toEqual(new Set())
  })

  const faults: ReadonlyArray<readonly [string, (world: World) => void, ReadonlyArray<Checker.Problem["problem"]>]> = [
    [
      "an acknowledged event that is not in the store",
      ({ acknowledged }) => acknowledged.push({ runId: "first", seq: 5, eventId: "event-5" }),
      ["lost"],
    ],
    [
      "an acknowledged event in whose place is another",
      ({ acknowledged }) => acknowledged.push({ runId: "first", seq: 2, eventId: "event-9" }),
      ["lost"],
    ],
    [
      "an acknowledged end that the store lost",
      ({ first, read, replayed }) => {
        first.pop()
        read.first.events.pop()
        replayed.pop()
      },
      ["no end", "lost", "reader has no end"],
    ],
    [
      "an event stored under two seqs",
      ({ second }) => {
        second[1]!.eventId = "event-1"
      },
      ["stored twice", "lost", "reader has another event", "archive has another event"],
    ],
    [
      "a line stored twice under two event ids",
      ({ second }) => {
        second[1]!.line = 1
      },
      ["stored twice"],
    ],
    [
      "lines in another order",
      ({ second }) => {
        second[0]!.line = 2
        second[1]!.line = 1
      },
      ["disorder in the store", "stored twice"],
    ],
    [
      "a line that never came although later ones did",
      ({ second }) => {
        second[1]!.line = 3
      },
      ["disorder in the store"],
    ],
    [
      "a hole in the seqs",
      ({ read, second }) => {
        second.splice(1, 1)
        read.second.events.splice(1, 1)
      },
      ["hole in the store", "lost", "reader has a hole", "reader has another event", "archive has another event"],
    ],
    [
      "a run that its producer ended before its last line",
      ({ second }) => {
        second[2]!.end = "own"
      },
      ["ended without all lines"],
    ],
    [
      "an event after the end",
      ({ first, read, replayed }) => {
        replayed.push({ runId: "first", seq: 5, eventId: "event-5", position: 99 })
        first.push({ seq: 5, eventId: "event-5", line: 4, end: undefined })
        read.first.events.push({ seq: 5, eventId: "event-5" })
      },
      ["event after the end", "ended without all lines", "reader has no end"],
    ],
    [
      "a planned run that nobody stored",
      ({ acknowledged, first, read, replayed }) => {
        replayed.splice(0, replayed.length, ...replayed.filter(({ runId }) => runId === "second"))
        first.length = 0
        read.first.events.length = 0
        acknowledged.splice(0, 4)
      },
      ["missing run", "reader has no end"],
    ],
    ["an event that the archive lost", ({ replayed }) => replayed.splice(2, 1), ["archive has a hole"]],
    ["an end that the archive lost", ({ replayed }) => replayed.pop(), ["archive has a hole"]],
    [
      "an event that the archive gives twice",
      ({ replayed }) => replayed.splice(1, 0, { ...replayed[0]!, position: 1.5 }),
      ["archive has a hole"],
    ],
    [
      "positions that don't rise",
      ({ replayed }) => {
        replayed[3] = { ...replayed[3]!, position: 2 }
      },
      ["archive goes back"],
    ],
    ["an event that a reader lost", ({ read }) => read.first.events.splice(1, 1), ["reader has a hole"]],
    [
      "an event that a reader was given twice",
      ({ read }) => read.first.events.splice(1, 0, { seq: 1, eventId: "event-1" }),
      ["reader has a double"],
    ],
    [
      "events that a reader was given in another order",
      ({ read }) => {
        read.first.events = read.first.events.toReversed()
      },
      ["reader has a hole", "reader has a disorder"],
    ],
    [
      "an event that a reader was given and the store lost",
      ({ read }) => {
        read.second.events[0] = { seq: 1, eventId: "event-7" }
      },
      ["reader has another event"],
    ],
    [
      "an end that never reached a reader",
      ({ read }) => {
        read.second.events.pop()
      },
      ["reader has no end"],
    ],
    [
      "a stream that never completed",
      ({ read }) => {
        read.second.isComplete = false
      },
      ["reader has no end"],
    ],
    ["a run that a reader never saw", ({ read }) => Reflect.deleteProperty(read, "first"), ["reader has no end"]],
  ]
  for (const [name, fault, expected] of faults) {
    it(`finds ${name}`, () => {
      expect(problemsAfter(fault)).toEqual(new Set(expected))
    })
  }
})
