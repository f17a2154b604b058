export { modalProviderConfigSchema, type ModalProviderConfig, type ModalProviderConfigInput } from './config.js'
export { ModalProvider, type ModalProviderParts } from './provider.js'
