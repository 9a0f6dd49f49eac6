/** What a reader asked to receive; the envelope that ends the run passes whatever was asked. */
import { Delivery, type Routing } from "@throughline/core/Envelope"
import * as Result from "effect/Result"
import * as Problem from "../Problem.ts"
import type { Query } from "./request.ts"

export type Passes = (envelope: Routing) => boolean

/** Kinds named in one query at most. */
const maxKinds = 100

const deliveries: ReadonlyArray<string> = Delivery.literals

/** The filter in a query; `undefined`: everything passes. */
export const fromQuery = (query: Query): Result.Result<Passes | undefined, Problem.Refused> => {
  const delivery = query.list("delivery")
  const kinds = query.list("kinds")
  if (delivery === undefined && kinds === undefined) return Result.succeed(undefined)
  const unknown = delivery?.find((value) => !deliveries.includes(value))
  if (unknown !== undefined || delivery?.length === 0) {
    return Result.fail(
      Problem.refuse("invalid-query", `delivery is not valid: expected some of ${deliveries.join(", ")}`),
    )
  }
  if (kinds !== undefined && (kinds.length === 0 || kinds.length > maxKinds)) {
    return Result.fail(Problem.refuse("invalid-query", `kinds is not valid: expected 1 to ${maxKinds} kinds`))
  }
  const deliverySet = delivery === undefined ? undefined : new Set<string>(delivery)
  const kindSet = kinds === undefined ? undefined : new Set(kinds)
  return Result.succeed(
    (envelope) =>
      envelope.endsRun !== undefined ||
      ((deliverySet === undefined || deliverySet.has(envelope.delivery)) &&
        (kindSet === undefined || kindSet.has(envelope.kind))),
  )
}
