export { daytonaProviderConfigSchema, type DaytonaProviderConfig } from './config.js'
export { DaytonaProvider, type DaytonaProviderParts } from './daytona-provider.js'
