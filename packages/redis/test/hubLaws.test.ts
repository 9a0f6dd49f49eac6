import * as HubLaws from "@throughline/testing/HubLaws"
import { backend } from "./lawRedis.ts"

HubLaws.suite("redis", backend, { timeout: 300_000, histories: 60 })
