export { modalProviderConfigSchema, type ModalProviderConfig, type ModalProviderConfigInput } from './config.js'
export { ModalProvider } from './provider.js'
