/** What an adapter of your own is written with; its tests are in ./conformance. */
export { InfrastructureError, infrastructureErrorKinds, type InfrastructureErrorKind } from '../job/errors.js'
export { bounded } from './deadline.js'
export * from './provider.js'
export { LocalProvider, localProviderConfigSchema, type LocalProviderConfig, type LocalProviderOptions } from './local/index.js'
