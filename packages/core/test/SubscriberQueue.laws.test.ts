import * as SubscriberQueue from "@throughline/core/SubscriberQueue"
import * as SubscriberQueueLaws from "@throughline/testing/SubscriberQueueLaws"
import * as Layer from "effect/Layer"

SubscriberQueueLaws.suite(
  "SubscriberQueue.make",
  Layer.succeed(SubscriberQueueLaws.QueueMaker, { make: SubscriberQueue.make }),
)

SubscriberQueueLaws.adapterSuite(
  "SubscriberQueue.makeForAdapter",
  Layer.succeed(SubscriberQueueLaws.QueueMaker, { make: SubscriberQueue.makeForAdapter }),
)
