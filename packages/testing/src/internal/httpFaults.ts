/** A `fetch` whose connections fail by a plan: so both readers meet the same faults, whatever server is behind. */
import * as Arbitrary from "effect/Arbitrary"
import * as Generator from "../Generator.ts"

/** What happens to a request that reads. */
export type ReadFault =
  | { readonly _tag: "Refused" }
  /** The body ends after so many bytes: closed in order, with an error, or with silence. */
  | { readonly _tag: "Cut"; readonly bytes: number; readonly how: "closes" | "fails" | "silent" }

/** What is lost of a request that writes; an answer is lost after the work was done. */
export type WriteFault = "request" | "answer" | undefined

export const readFault: Arbitrary.Arbitrary<ReadFault> = Generator.frequency<ReadFault>([
  [1, Arbitrary.Constant({ _tag: "Refused" })],
  [
    5,
    Arbitrary.map(
      Arbitrary.all({
        bytes: Generator.int(0, 3_000),
        how: Generator.weighted([
          [9, "closes"],
          [9, "fails"],
          // Rare, as it takes a reader's idle timeout of real time.
          [1, "silent"],
        ]),
      }),
      (cut) => ({ _tag: "Cut", ...cut }),
    ),
  ],
])

/** The same fault as a reader without an idle timeout gets over it. */
export const heard = (fault: ReadFault): ReadFault =>
  fault._tag === "Cut" && fault.how === "silent" ? { ...fault, how: "fails" } : fault

export const writeFault: Arbitrary.Arbitrary<WriteFault> = Generator.weighted<WriteFault>([
  [2, undefined],
  [1, "request"],
  [2, "answer"],
])

type Fetch = typeof globalThis.fetch

const broken = (): Error => new TypeError("the network failed")

const ignore = (): void => {}

/** The body up to some byte. */
const cutOff = (body: ReadableStream<Uint8Array>, { bytes, how }: ReadFault & { readonly _tag: "Cut" }) => {
  const reader = body.getReader()
  let left = bytes
  const stop = (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    reader.cancel().catch(ignore)
    if (how === "closes") controller.close()
    else if (how === "fails") controller.error(broken())
    else return new Promise(ignore)
    return Promise.resolve()
  }
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        if (left === 0) return stop(controller)
        const { done, value } = await reader.read()
        if (done) return controller.close()
        controller.enqueue(value.subarray(0, left))
        left -= Math.min(left, value.length)
      },
      cancel: () => reader.cancel(),
    },
    { highWaterMark: 0 },
  )
}

/** The faults of a reader's requests, in order; after them everything works. `reached` is told of each that happens. */
export const reading = (faults: ReadonlyArray<ReadFault>, reached: (fault: string) => void): Fetch => {
  let requests = 0
  return async (input, init) => {
    const fault = faults[requests++]
    if (fault?._tag === "Refused") {
      reached("a refused connection")
      throw broken()
    }
    const response = await fetch(input, init)
    if (fault === undefined || response.body === null) return response
    reached(fault.how === "silent" ? "a connection that falls silent" : "a cut connection")
    const { headers, status } = response
    return new Response(cutOff(response.body, fault), { headers, status })
  }
}

/** The faults of a writer's requests, in order; after them everything works. */
export const writing = (faults: ReadonlyArray<WriteFault>, reached: (fault: string) => void): Fetch => {
  let requests = 0
  return async (input, init) => {
    const fault = faults[requests++]
    if (fault === "request") {
      reached("a lost request")
      throw broken()
    }
    const response = await fetch(input, init)
    if (fault === undefined) return response
    await response.arrayBuffer()
    reached("a lost answer")
    throw broken()
  }
}
