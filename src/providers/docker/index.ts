export { dockerProviderConfigSchema, type DockerProviderConfig, type DockerProviderConfigInput } from './config.js'
export { DockerProvider } from './docker-provider.js'
