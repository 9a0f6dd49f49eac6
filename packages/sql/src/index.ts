export * as SqlDialect from "./SqlDialect.ts"
export * as SqlMigrations from "./SqlMigrations.ts"
export * as SqlEventStore from "./SqlEventStore.ts"
export * as SqlEventArchive from "./SqlEventArchive.ts"
