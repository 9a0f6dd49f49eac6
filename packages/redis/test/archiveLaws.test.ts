import * as EventArchiveLaws from "@throughline/testing/EventArchiveLaws"
import { backend } from "./lawRedis.ts"

EventArchiveLaws.suite("redis", backend, { slow: true })
