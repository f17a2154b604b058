export { type LocalProviderConfig, type LocalProviderOptions, localProviderConfigSchema } from './config.js'
export { LocalProvider } from './local-provider.js'
