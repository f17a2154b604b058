export { EmbeddedRedisError, startRedis, type EmbeddedRedis, type EmbeddedRedisOptions } from './redis.js'
