import type { ClientProgram } from '../../src/providers/conformance/index.js'
import { loaderArgs, ownFile } from '../own-programs.js'

/** A program that makes the provider of this entry, with its keys in the environment, for the conformance suite to kill. */
export function clientProgram(type: string, options: Readonly<Record<string, unknown>>, keys: Readonly<Record<string, string>>): ClientProgram {
  return {
    file: process.execPath,
    args: [...loaderArgs, ownFile('test/providers/conformance-client.ts')],
    env: {
      PATH: process.env['PATH'] ?? '',
      MODAL_CONFIG_PATH: '/dev/null',
      PROVIDER_ENTRY: JSON.stringify({ name: type, type, limit: { sandboxes: 1 }, ...options }),
      ...keys,
    },
  }
}
