import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as HubLaws from "@throughline/testing/HubLaws"
import * as Layer from "effect/Layer"

HubLaws.suite("memory", (options) => Layer.mergeAll(EventStore.layerMemory(options), StreamAdapter.layerMemory))
