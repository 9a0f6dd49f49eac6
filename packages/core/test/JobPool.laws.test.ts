import * as JobEngine from "@throughline/core/JobEngine"
import * as JobPoolLaws from "@throughline/testing/JobPoolLaws"

JobPoolLaws.suite("memory", (options) => JobEngine.layerMemory(options))
