import { expect, it } from 'vitest'
import { reference, undescribed, writtenReference } from '../../script/write-reference.js'
import { configSchema } from '../../src/config/schema.js'
import { codeStorageConfigSchema, httpsGitConfigSchema } from '../../src/git/config.js'

it('the reference is what the code says; otherwise run npx tsx script/write-reference.ts', async () => {
  expect(await writtenReference()).toBe(reference())
})

it('every field of the configuration says what it is for, in the reference and in editors', () => {
  expect([configSchema, codeStorageConfigSchema, httpsGitConfigSchema].flatMap(undescribed)).toEqual([])
})

it('has what is nested, alternatives among it, each command with its own, and types that read', () => {
  const text = reference()
  for (const line of ['| `steps[].resume` | string |', '| `promote.strategy` | "ff_only" or "ff_prefer" or "merge" | `"ff_only"` |', '| `push` | false or object |', '| `consumer.leaseMs` | integer, from 1 | `15000` |', '### `switchyard events redeliver [ids...]`', '| `usage.sandboxSeconds` | number']) expect(text).toContain(line)
  expect(text).not.toMatch(/undefined|\[object/)
})
