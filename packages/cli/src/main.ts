#!/usr/bin/env node
import { enableCompileCache } from "node:module"
import { homedir } from "node:os"
import { join } from "node:path"

// Compiled once instead of at every start, which is half of what a start costs. In a directory of the user's own, as
// code must not come from a shared one; where there is none, nothing is cached. Effect isn't loaded yet.
// @effect-diagnostics-next-line processEnv:off
const cacheHome = process.env["XDG_CACHE_HOME"]
enableCompileCache(join(cacheHome?.startsWith("/") ? cacheHome : join(homedir(), ".cache"), "throughline", "compiled"))

await import("./program.ts")
