import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as BridgeLaws from "@throughline/testing/BridgeLaws"
import * as Layer from "effect/Layer"

BridgeLaws.suite("memory", (options) => Layer.mergeAll(EventStore.layerMemory(options), StreamAdapter.layerMemory))
