import * as EventStore from "@throughline/core/EventStore"
import * as EventArchiveLaws from "@throughline/testing/EventArchiveLaws"

EventArchiveLaws.suite("memory", EventStore.layerMemory)
