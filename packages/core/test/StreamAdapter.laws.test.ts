import * as EventStore from "@throughline/core/EventStore"
import * as StreamAdapter from "@throughline/core/StreamAdapter"
import * as StreamAdapterLaws from "@throughline/testing/StreamAdapterLaws"
import * as Layer from "effect/Layer"

StreamAdapterLaws.suite("memory", Layer.merge(EventStore.layerMemory(), StreamAdapter.layerMemory))
