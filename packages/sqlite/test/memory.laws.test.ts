import type { StoreOptions } from "@throughline/core/StoreOptions"
import * as SqliteThroughline from "@throughline/sqlite/SqliteThroughline"
import * as BridgeLaws from "@throughline/testing/BridgeLaws"
import * as EventArchiveLaws from "@throughline/testing/EventArchiveLaws"
import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"
import * as HubLaws from "@throughline/testing/HubLaws"
import * as StreamAdapterLaws from "@throughline/testing/StreamAdapterLaws"

const name = "sqlite in memory"
const layer = (store?: StoreOptions) => SqliteThroughline.layerBackend({ filename: ":memory:", store })
const options = { timeout: 300_000, slow: true }

EventStoreLaws.suite(name, layer, options)
EventArchiveLaws.suite(name, layer, options)
StreamAdapterLaws.suite(name, layer, options)
BridgeLaws.suite(name, layer, options)
HubLaws.suite(name, layer, options)
