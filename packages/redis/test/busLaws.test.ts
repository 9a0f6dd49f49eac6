import * as EventBus from "@throughline/core/EventBus"
import * as EventBusLaws from "@throughline/testing/EventBusLaws"
import * as Layer from "effect/Layer"
import { backend } from "./lawRedis.ts"

EventBusLaws.suite("redis", (options) => EventBus.layer(options).pipe(Layer.provideMerge(backend())), {
  timeout: 300_000,
  slow: true,
})
