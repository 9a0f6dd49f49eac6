import * as BridgeLaws from "@throughline/testing/BridgeLaws"
import * as StreamAdapterLaws from "@throughline/testing/StreamAdapterLaws"
import { backend } from "./lawRedis.ts"

StreamAdapterLaws.suite("redis", backend)
BridgeLaws.suite("redis", backend, { timeout: 300_000, slow: true })
