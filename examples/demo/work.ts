/** The command that the demo records: some hundred lines over a few seconds, as a build or an agent would print them. */
import { createHash } from "node:crypto"
import { setTimeout } from "node:timers/promises"

const steps = 400

let digest = "0".repeat(64)
for (let step = 1; step <= steps; step++) {
  digest = createHash("sha256").update(digest).digest("hex")
  console.log(`step ${step}/${steps}: ${digest.slice(0, 16)}`)
  if (step % 100 === 0) console.error(`checkpoint at step ${step}`)
  await setTimeout(10)
}
