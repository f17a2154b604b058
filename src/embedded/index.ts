export { EmbeddedRedisError, startRedis, type EmbeddedRedis, type EmbeddedRedisOptions } from './redis.js'
export { generateDevelopmentKeys, type DevelopmentKeys } from './code-storage/keys.js'
export { startCodeStorage, type CodeStorageServer, type CodeStorageServerOptions, type Outage } from './code-storage/server.js'
export type { WireBytes } from './code-storage/smart-http.js'
