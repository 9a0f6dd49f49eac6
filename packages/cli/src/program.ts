/** The command as a process: its services, its signals, its exit code. Importing this module runs it. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import * as Command from "./Command.ts"
import * as Exit from "./Exit.ts"
import * as Output from "./Output.ts"
import * as Signals from "./Signals.ts"

const Package = Schema.fromJsonString(Schema.Struct({ version: Schema.String }))
const { version } = Schema.decodeSync(Package)(readFileSync(new URL("../package.json", import.meta.url), "utf8"))

const signals = Signals.make()

// NodeRuntime.runMain interrupts on every signal and doesn't tell which; `record` hands signals on instead.
const runMain = Runtime.makeRunMain(({ fiber, teardown }) => {
  const unwatch = signals.watch(fiber)
  fiber.addObserver((exit) => {
    unwatch()
    teardown(exit, (code) => process.exit(signals.exitCode() ?? code))
  })
})

const services = Layer.mergeAll(
  NodeServices.layer,
  Layer.provideMerge(Output.layerLogger, Output.layer),
  SecureRandom.layerWebCrypto,
  Layer.succeed(Signals.Signals, signals.service),
)

// runMain's own report is logged outside of these services.
Command.run(process.argv.slice(2), version).pipe(
  Effect.provide(services),
  Effect.tapCause(Exit.report),
  runMain({ disableErrorReporting: true }),
)
