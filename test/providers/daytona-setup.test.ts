import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DaytonaProvider, daytonaProviderConfigSchema } from '../../src/providers/daytona/index.js'
import type { DaytonaSdk } from '../../src/providers/daytona/sdk.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { failureOf, soon, startDaytona, type DaytonaFixture } from './daytona-fixture.js'

const run = promisify(execFile)
let daytona: DaytonaFixture
beforeAll(async () => {
  daytona = await startDaytona({ snapshots: { good: 'active', old: 'inactive' } })
})
afterAll(() => daytona.close())

describe('the configuration', () => {
  it('holds no key, and says where the key is', () => {
    expect(daytonaProviderConfigSchema.parse({})).toEqual({ name: 'daytona', apiKeyEnv: 'DAYTONA_API_KEY', apiUrl: 'https://app.daytona.io/api', maxResources: {} })
    expect(daytonaProviderConfigSchema.safeParse({ apiKey: 'dtn_x' }).success).toBe(false)
  })

  it('takes a lifetime in words and drops a trailing slash', () => {
    expect(daytonaProviderConfigSchema.parse({ maxLifetime: '2h', apiUrl: 'http://127.0.0.1:1/api//' })).toMatchObject({
      maxLifetime: 7_200_000,
      apiUrl: 'http://127.0.0.1:1/api',
    })
  })

  it.each([
    ['a snapshot and an image', { snapshot: 'a', image: 'b' }],
    ['a URL of another kind', { apiUrl: 'ftp://127.0.0.1' }],
    ['no name of a variable', { apiKeyEnv: 'not a name' }],
  ])('refuses %s', (_what, config) => {
    expect(daytonaProviderConfigSchema.safeParse(config).success).toBe(false)
  })
})

describe('check', () => {
  it('finds nothing wrong with a good key and an active snapshot, and creates nothing', async () => {
    expect(await daytona.another({ snapshot: 'good' }).check(soon)).toEqual([])
    expect(daytona.server.createBodies).toEqual([])
  })

  it('warns of a snapshot that is not active', async () => {
    expect(await daytona.another({ snapshot: 'old' }).check(soon)).toEqual([expect.stringContaining('snapshot "old" is inactive')])
  })

  it('finds an unknown snapshot', async () => {
    const error = await failureOf(daytona.another({ snapshot: 'nowhere' }).check(soon))
    expect(error.kind).toBe('invalid')
    expect(error.message).toContain('nowhere')
  })

  it.each([
    ['missing', {}, /DAYTONA_API_KEY is not set/],
    ['empty', { DAYTONA_API_KEY: ' ' }, /DAYTONA_API_KEY is empty/],
    ['wrong', { DAYTONA_API_KEY: 'dtn_wrong' }, /check the API key in DAYTONA_API_KEY/],
  ])('names the variable of a key that is %s', async (_what, env, says) => {
    const provider = new DaytonaProvider(daytonaProviderConfigSchema.parse({ apiUrl: daytona.server.apiUrl }), { env })
    const error = await failureOf(provider.check(soon))
    expect(error.kind).toBe('auth')
    expect(error.message).toMatch(says)
    expect(error.message).not.toContain('dtn_wrong')
    await provider.close()
  })
})

it('takes a key that was changed meanwhile', async () => {
  let key = 'dtn_old'
  const provider = new DaytonaProvider(daytonaProviderConfigSchema.parse({ apiUrl: daytona.server.apiUrl }), { env: { get DAYTONA_API_KEY() { return key } } })
  expect(await failureOf(provider.check(soon))).toMatchObject({ kind: 'auth' })
  key = daytona.server.apiKey
  await provider.check(soon)
  await provider.close()
})

describe('the SDK', () => {
  it('is not loaded until a call needs it', async () => {
    // The SDK's clients are CommonJS, so the cache of `require` tells whether it was loaded.
    const script = `
      import { createRequire } from 'node:module'
      import { DaytonaProvider, daytonaProviderConfigSchema } from ${JSON.stringify(ownFile('src/providers/daytona/index.ts'))}
      const loaded = () => Object.keys(createRequire(import.meta.url).cache).some((path) => path.includes('@daytona'))
      const config = daytonaProviderConfigSchema.parse({ apiUrl: process.env.URL })
      const provider = new DaytonaProvider(config, { env: { DAYTONA_API_KEY: process.env.KEY } })
      const before = loaded()
      await provider.check({ timeoutMs: 20000 })
      console.log(JSON.stringify([before, loaded()]))
      await provider.close()
    `
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-daytona-'))
    try {
      const file = join(folder, 'main.mjs')
      await writeFile(file, script)
      // It ends by itself: nothing of the SDK keeps the process alive.
      const { stdout } = await run(process.execPath, [...loaderArgs, file], {
        env: { ...process.env, URL: daytona.server.apiUrl, KEY: daytona.server.apiKey },
      })
      expect(JSON.parse(stdout)).toEqual([false, true])
    } finally {
      await rm(folder, { recursive: true, maxRetries: 10 })
    }
  })

  it('is asked for by name when it is missing', async () => {
    const loadSdk = (): Promise<DaytonaSdk> => Promise.reject(Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' }))
    const provider = new DaytonaProvider(daytonaProviderConfigSchema.parse({}), { env: { DAYTONA_API_KEY: 'x' }, loadSdk })
    const error = await failureOf(provider.check(soon))
    expect(error.kind).toBe('invalid')
    expect(error.message).toContain('npm install @daytona/sdk')
  })

  it('is not led elsewhere by a .env file in the working folder', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-daytona-'))
    try {
      await writeFile(join(folder, '.env'), 'DAYTONA_API_URL=http://127.0.0.1:1/api\n')
      const file = join(folder, 'main.mjs')
      await writeFile(
        file,
        `import { DaytonaProvider, daytonaProviderConfigSchema } from ${JSON.stringify(ownFile('src/providers/daytona/index.ts'))}
         const provider = new DaytonaProvider(daytonaProviderConfigSchema.parse({ apiUrl: process.env.URL }))
         console.log(JSON.stringify(await provider.check({ timeoutMs: 20000 })))
         await provider.close()`,
      )
      const { stdout } = await run(process.execPath, [...loaderArgs, file], {
        cwd: folder,
        // The same variable in the environment makes the SDK refuse to guess, unless it is told.
        env: { ...process.env, DAYTONA_API_URL: 'http://127.0.0.1:1/api', DAYTONA_API_KEY: daytona.server.apiKey, URL: daytona.server.apiUrl },
      })
      expect(JSON.parse(stdout)).toEqual([])
    } finally {
      await rm(folder, { recursive: true, maxRetries: 10 })
    }
  })
})
