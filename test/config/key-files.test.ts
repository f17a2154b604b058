import { mkdir, mkdtemp, rm, rmdir, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { withKeyFiles } from '../../src/config/key-files.js'
import { secretsFromEnvironment } from '../../src/consumers/index.js'
import { e2bProviderConfigSchema } from '../../src/providers/e2b/config.js'
import { readApiKey } from '../../src/providers/e2b/sdk.js'

let directory: string
beforeAll(async () => (directory = await mkdtemp(join(tmpdir(), 'switchyard-keys-'))))
afterAll(() => rm(directory, { recursive: true, maxRetries: 10 }))

it('a variable that stands in a file is read anew at each use, before the environment’s own', async () => {
  const environment = withKeyFiles({ E2B_API_KEY: 'of-the-environment', OTHER: 'x' }, { E2B_API_KEY: 'e2b' }, directory)
  const config = e2bProviderConfigSchema.parse({})
  expect(() => readApiKey(config, environment)).toThrow(/E2B_API_KEY/)
  await writeFile(join(directory, 'e2b'), 'first\n')
  expect(readApiKey(config, environment)).toBe('first')
  await writeFile(join(directory, 'e2b'), 'second')
  expect(readApiKey(config, environment)).toBe('second')
  expect(environment.OTHER).toBe('x')
  await unlink(join(directory, 'e2b'))
  // As where no descriptor is left, it is there and can't be read: a key that was right is not missing.
  await mkdir(join(directory, 'e2b'))
  expect(readApiKey(config, environment)).toBe('second')
  await rmdir(join(directory, 'e2b'))
  expect(() => readApiKey(config, environment)).toThrow(/E2B_API_KEY/)
})

it('secrets too, and a consumer has the names of those that can be read', async () => {
  const secrets = secretsFromEnvironment(['A', 'B', 'C'], withKeyFiles({ B: 'b' }, { A: 'a' }, directory))
  expect(secrets.names?.()).toEqual(['B'])
  await writeFile(join(directory, 'a'), 'value\r\n')
  expect(secrets.names?.()).toEqual(['A', 'B'])
  expect([secrets('A'), secrets('B'), secrets('C')]).toEqual(['value', 'b', undefined])
})
