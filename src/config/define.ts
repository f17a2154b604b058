import type { z } from 'zod'
import type { configSchema } from './schema.js'

/** The configuration as users write it. Every field has a default, but a consumer needs `git` and `providers`. */
export type ConfigInput = z.input<typeof configSchema>

/** Returns its argument; it is there so that editors know the fields of a `switchyard.config.ts`. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config
}
