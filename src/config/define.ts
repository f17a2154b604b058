import type { ConfigInput } from './config-input.js'

export type { ConfigInput } from './config-input.js'

/** Returns its argument; it is there so that editors know the fields of a `switchyard.config.ts`, adapters' among them, and what each is for. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config
}
