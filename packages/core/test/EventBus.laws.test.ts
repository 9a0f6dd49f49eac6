import * as EventBus from "@throughline/core/EventBus"
import * as EventStore from "@throughline/core/EventStore"
import * as EventBusLaws from "@throughline/testing/EventBusLaws"
import * as Layer from "effect/Layer"

EventBusLaws.suite("memory", (options) => Layer.provideMerge(EventBus.layer(options), EventStore.layerMemory()))
