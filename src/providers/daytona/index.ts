export { daytonaProviderConfigSchema, type DaytonaProviderConfig, type DaytonaProviderConfigInput } from './config.js'
export { DaytonaProvider, type DaytonaProviderParts } from './daytona-provider.js'
