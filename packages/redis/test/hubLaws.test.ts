import * as HubLaws from "@throughline/testing/HubLaws"
import { backendOf } from "./lawRedis.ts"

// Its laws count the fibers that are left, and a connection that is kept has one.
HubLaws.suite("redis", backendOf({ idle: 0 }), { timeout: 300_000, slow: true })
