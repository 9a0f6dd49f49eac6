import * as EventBus from "@throughline/core/EventBus"
import * as SqlEventArchive from "@throughline/sql/SqlEventArchive"
import * as SqlEventStore from "@throughline/sql/SqlEventStore"
import * as SqliteClient from "@throughline/sqlite/SqliteClient"
import * as EventBusLaws from "@throughline/testing/EventBusLaws"
import * as Layer from "effect/Layer"

const client = SqliteClient.layer({ filename: ":memory:" })

EventBusLaws.suite(
  "sqlite in memory",
  (options) =>
    EventBus.layer(options).pipe(
      Layer.provideMerge(Layer.mergeAll(SqlEventStore.layer(), SqlEventArchive.layer())),
      Layer.provide(client),
    ),
  { slow: true },
)
