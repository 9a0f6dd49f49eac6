import * as EventStore from "@throughline/core/EventStore"
import * as EventStoreLaws from "@throughline/testing/EventStoreLaws"

EventStoreLaws.suite("memory", EventStore.layerMemory)
