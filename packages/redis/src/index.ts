export * as RedisKeys from "./RedisKeys.ts"
