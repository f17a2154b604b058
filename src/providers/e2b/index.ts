export { e2bProviderConfigSchema, type E2bProviderConfig, type E2bProviderConfigInput } from './config.js'
export { E2bProvider, type E2bProviderParts } from './provider.js'
