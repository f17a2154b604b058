export { modalProviderConfigSchema, type ModalProviderConfig, type ModalProviderConfigInput } from './config.js'
export type { ModalProviderParts } from './calls.js'
export { ModalProvider } from './provider.js'
