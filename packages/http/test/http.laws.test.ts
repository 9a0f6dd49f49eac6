import * as Throughline from "@throughline/core/Throughline"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as HttpLaws from "@throughline/testing/HttpLaws"
import { hub, served } from "./lawServer.ts"

HttpLaws.suite("memory", served(Throughline.layerMemory({ hub })))

HttpLaws.suite("sqlite", served(SqliteThroughline.layer({ filename: ":memory:", hub })), { slow: true })
