import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { configTypes } from '../../script/write-config-types.js'
import { parseConfig } from '../../src/config/load.js'
import { defineConfig } from '../../src/config/define.js'

it('the types of a configuration are current; otherwise run npx tsx script/write-config-types.ts', () => {
  expect(readFileSync('src/config/config-input.ts', 'utf8')).toBe(configTypes())
})

it('describe what editors show of each field of an adapter', () => {
  expect(configTypes()).toMatch(/export interface E2bEntry extends EntryInput \{[^}]*\/\*\* The environment variable that holds the API key\. \*\/\n {2}apiKeyEnv\?: /)
})

it('take what the schemas take, and no other field of any adapter', () => {
  const config = defineConfig({
    git: { type: 'code-storage', org: 'acme' },
    providers: [
      { name: 'here', type: 'local', limit: { sandboxes: 2 }, isolation: 'auto', loopbackPorts: [8000] },
      { name: 'e2b', type: 'e2b', limit: { sandboxes: 20 }, template: 'agents', maxLifetime: '24h', price: { perCpuHour: 0.05 } },
      { name: 'mine', type: 'custom', limit: { sandboxes: 1 }, module: './mine.js', options: { any: 'thing' } },
    ],
    consumer: { maxJobs: 10, events: { maxCount: 5 } },
  })
  expect(parseConfig(config, {}).providers).toHaveLength(3)
  // @ts-expect-error: a field that the adapter has under another name
  defineConfig({ providers: [{ name: 'e2b', type: 'e2b', limit: { sandboxes: 1 }, apiKey: 'E2B_API_KEY' }] })
  // @ts-expect-error: a type that there is not
  defineConfig({ providers: [{ name: 'x', type: 'e2c', limit: { sandboxes: 1 } }] })
  // @ts-expect-error: a limit that is missing
  defineConfig({ providers: [{ name: 'x', type: 'modal' }] })
})
