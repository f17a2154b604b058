export { Consumer, type ConsumerOptions } from './consumer.js'
export { secretsFromEnvironment, type SecretSource } from './secrets.js'
export { consumerSettingsSchema, type ConsumerSettings } from './settings.js'
export type { ProviderSlot } from './run-context.js'
