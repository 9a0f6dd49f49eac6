export * as SqliteClient from "./SqliteClient.ts"
export * as SqliteStreamAdapter from "./SqliteStreamAdapter.ts"
export * as SqliteThroughline from "./SqliteThroughline.ts"
export * as SqliteJobEngine from "./SqliteJobEngine.ts"
