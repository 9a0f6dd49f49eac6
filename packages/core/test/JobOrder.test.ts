import { assert, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
// The structures behind the memory engine, held to a sorted array: what no run of the engine shows in a reasonable time.
import { JobHeap } from "../src/internal/jobHeap.ts"
import { JobLine } from "../src/internal/jobLine.ts"

interface Item {
  readonly key: number
  readonly number: number
  place: number
}

const before = (a: Item, b: Item) => (a.key === b.key ? a.number < b.number : a.key < b.key)

interface Order {
  readonly first: Item | undefined
  add: (item: Item) => void
  remove: (item: Item) => void
}

/** Adds what is from 0 up under that key; takes the first for -1, or another for less. */
const agrees = (order: Order, commands: ReadonlyArray<number>): void => {
  const model: Array<Item> = []
  let number = 0
  for (const command of commands) {
    if (command >= 0) {
      const item = { key: command, number: number++, place: -1 }
      order.add(item)
      model.push(item)
      model.sort((a, b) => (before(a, b) ? -1 : 1))
    } else if (model.length > 0) {
      const [item] = model.splice(command === -1 ? 0 : -command % model.length, 1)
      order.remove(item!)
    }
    assert.strictEqual(order.first, model[0])
  }
}

const commands = Arbitrary.schema(Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: -12, maximum: 20 }))))

it.effect.prop(
  "a heap gives the first in order, whatever was added and taken out of its middle",
  [commands],
  ([given]) => Effect.sync(() => agrees(new JobHeap(before), given)),
)

it.effect.prop("a line gives the first in order, whether or not what is added comes in order", [commands], ([given]) =>
  Effect.sync(() => agrees(new JobLine(before), given)),
)

it("a long line stays in order while it is cut", () => {
  const line = new JobLine<Item>(before)
  const items = Array.from({ length: 10_000 }, (_, number) => ({ key: number >> 2, number, place: -1 }))
  for (const item of items) line.add(item)
  for (const item of items.filter(({ number }) => number % 3 === 1)) line.remove(item)
  line.add({ key: -1, number: -1, place: -1 })
  const taken: Array<number> = []
  for (let first = line.first; first !== undefined; first = line.first) {
    taken.push(first.number)
    line.remove(first)
  }
  assert.deepStrictEqual(taken, [-1, ...items.filter(({ number }) => number % 3 !== 1).map(({ number }) => number)])
})
