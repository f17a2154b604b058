import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { ClientProgram } from '../../src/providers/conformance/index.js'

/** A program that makes the provider of this entry, with its keys in the environment, for the conformance suite to kill. */
export function clientProgram(type: string, options: Readonly<Record<string, unknown>>, keys: Readonly<Record<string, string>>): ClientProgram {
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  return {
    file: process.execPath,
    args: ['--import', tsx, fileURLToPath(new URL('conformance-client.ts', import.meta.url))],
    env: {
      PATH: process.env['PATH'] ?? '',
      MODAL_CONFIG_PATH: '/dev/null',
      PROVIDER_ENTRY: JSON.stringify({ name: type, type, limit: { sandboxes: 1 }, ...options }),
      ...keys,
    },
  }
}
