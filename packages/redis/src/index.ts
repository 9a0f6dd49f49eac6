export * as IoRedis from "./IoRedis.ts"
export * as RedisFailed from "./RedisFailed.ts"
export * as RedisKeys from "./RedisKeys.ts"
export * as RedisScript from "./RedisScript.ts"
