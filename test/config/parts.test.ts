import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createGitHost } from '../../src/config/git-host.js'
import { parseConfig } from '../../src/config/load.js'
import { createProviders } from '../../src/config/providers.js'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { InvalidInputError } from '../../src/job/errors.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-parts-'))
})
afterAll(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))

const limit = { sandboxes: 1 }
const make = (...providers: object[]) => createProviders(parseConfig({ providers }).providers, { directory: folder, environment: {} })

async function problemsOf(work: () => unknown): Promise<readonly string[]> {
  try {
    await work()
  } catch (error) {
    if (error instanceof InvalidInputError) return error.problems
    throw error
  }
  throw new Error('was accepted')
}

describe('providers from the configuration', () => {
  it('are made in order with their limits, one of each kind and two of one', async () => {
    const made = await make(
      { name: 'here', type: 'local', limit: { sandboxes: 3 }, stateDir: join(folder, 'state') },
      { name: 'e2b-eu', type: 'e2b', limit: { sandboxes: 20 }, apiKeyEnv: 'EU_KEY' },
      { name: 'e2b-us', type: 'e2b', limit },
      { name: 'modal', type: 'modal', limit },
      { name: 'daytona', type: 'daytona', limit: { sandboxes: 5, cpu: 10, memoryMiB: 20_480 } },
    )
    expect(made.map(({ provider, limit: { sandboxes } }) => [provider.name, provider.kind, sandboxes])).toEqual([
      ['here', 'local', 3], ['e2b-eu', 'e2b', 20], ['e2b-us', 'e2b', 1], ['modal', 'modal', 1], ['daytona', 'daytona', 5],
    ])
    await Promise.all(made.map(({ provider }) => provider.close()))
  })

  it('all say at once what is wrong with them, each with its place', async () => {
    expect(
      await problemsOf(() => make(
        { name: 'a', type: 'locall', limit },
        { name: 'b', type: 'e2b', limit, templat: 'x' },
        { name: 'c', type: 'modal', limit, app: '' },
        { name: 'd', type: 'toString', limit },
      )),
    ).toEqual([
      'providers[0].type: "locall" is not a type of provider (did you mean "local"?); give one of "local", "e2b", "modal", "daytona", "docker", "custom"',
      'providers[1].templat: is not a known field of providers[1] (did you mean "template"?); remove it or check its spelling',
      expect.stringMatching(/^providers\[2\]\.app: /),
      expect.stringMatching(/^providers\[3\]\.type: "toString" is not a type of provider/),
    ])
  })

  it('are missed when there are none', async () => {
    expect(await problemsOf(() => make())).toEqual([expect.stringMatching(/^providers: is empty; a consumer needs at least one/)])
  })

  it('are a user’s own, from a module beside the configuration', async () => {
    await writeFile(
      join(folder, 'mine.ts'),
      `const nothing = async () => undefined
       export default ({ name, options }: { name: string; options: { region: string } }) => ({
         name, kind: 'mine', region: options.region, capabilities: {},
         create: nothing, get: nothing, exec: nothing, kill: nothing, list: nothing, extend: nothing, check: nothing, close: nothing,
       })`,
    )
    const [made] = await make({ name: 'own', type: 'custom', limit, module: './mine.ts', options: { region: 'eu' } })
    expect(made?.provider).toMatchObject({ name: 'own', kind: 'mine', region: 'eu' })
  })

  it('take injected credentials only where headers can be injected', async () => {
    const made = await make(
      { name: 'a', type: 'local', limit, credentials: 'brokered' },
      { name: 'b', type: 'e2b', limit, credentials: 'injected' },
      { name: 'c', type: 'modal', limit, credentials: 'injected' },
      { name: 'd', type: 'modal', limit },
    )
    expect(made.map(({ credentials }) => credentials)).toEqual(['brokered', 'injected', 'injected', undefined])
    expect(made.map(({ provider }) => provider.injectHeaders !== undefined)).toEqual([false, true, true, false])
    const wrong = [
      { name: 'a', type: 'local', limit, credentials: 'injected' },
      { name: 'b', type: 'daytona', limit, credentials: 'injected' },
      { name: 'c', type: 'modal', limit, credentials: 'injected', injectHeaders: false },
    ]
    expect(await problemsOf(() => make(...wrong))).toEqual([
      'providers[0].credentials: "injected" needs a provider that adds headers outside of its sandboxes, and "a" (local) does not; use "brokered", which keeps tokens out of sandboxes everywhere, or "minted"',
      'providers[1].credentials: "injected" needs a provider that adds headers outside of its sandboxes, and "b" (daytona) does not; use "brokered", which keeps tokens out of sandboxes everywhere, or "minted"',
      'providers[2].credentials: "injected" needs a provider that adds headers outside of its sandboxes, and "c" (modal) does not; leave injectHeaders out of its settings',
    ])
    expect(await problemsOf(() => make({ name: 'a', type: 'local', limit, credentials: 'outside' }))).toEqual(['providers[0].credentials: must be "minted", "injected" or "brokered"'])
  })

  it('say what is wrong with a user’s own', async () => {
    await writeFile(join(folder, 'half.mjs'), 'export default ({ name }) => ({ name, create() {}, exec() {} })')
    await writeFile(join(folder, 'renames.mjs'), `const f = () => undefined; export default () => ({ name: 'x', create: f, get: f, exec: f, kill: f, list: f, extend: f, check: f, close: f })`)
    await writeFile(join(folder, 'throws.mjs'), `export default () => { throw new Error('no region') }`)
    await writeFile(join(folder, 'object.mjs'), 'export default {}')
    const custom = (module?: string) => problemsOf(() => make({ name: 'own', type: 'custom', limit, module }))
    expect(await custom()).toEqual([expect.stringMatching(/^providers\[0\]\.module: is missing; give the path/)])
    expect(await custom('./none.mjs')).toEqual([expect.stringMatching(/none\.mjs: can't be loaded/)])
    expect(await custom('./half.mjs')).toEqual([expect.stringMatching(/is not a provider; it lacks get, kill, list, extend, check, close$/)])
    expect(await custom('./renames.mjs')).toEqual([expect.stringMatching(/made a provider called "x"; it must take the name that it is given, "own"$/)])
    expect(await custom('./throws.mjs')).toEqual([expect.stringMatching(/did not make a provider \(no region\)$/)])
    expect(await custom('./object.mjs')).toEqual([expect.stringMatching(/exports no function as its default/)])
  })
})

describe('the git host from the configuration', () => {
  const { privateKey } = generateDevelopmentKeys()
  const make = (git?: object, environment = {}) => createGitHost(parseConfig(git === undefined ? {} : { git }).git, { directory: folder, environment })

  it('is Code Storage with a key from a variable or a file beside the configuration', async () => {
    expect(make({ type: 'code-storage', org: 'acme' }, { PIERRE_PRIVATE_KEY: privateKey }).hosts).toEqual(['acme.code.storage'])
    await writeFile(join(folder, 'key.pem'), privateKey)
    expect(make({ type: 'code-storage', org: 'acme', privateKeyFile: 'key.pem' }).ephemeral).toBe(true)
  })

  it('is any other host', () => {
    expect(make({ type: 'https', url: 'https://git.example.com', tokenEnv: 'TOKEN' }, { TOKEN: 't' }).hosts).toEqual(['git.example.com'])
  })

  it('says what is wrong, without the key', async () => {
    expect(await problemsOf(() => make())).toEqual([expect.stringMatching(/^git: is missing; a consumer needs/)])
    expect(await problemsOf(() => make({ type: 'code-storage' }))).toEqual([expect.stringMatching(/^git\.org: is missing/)])
    expect(await problemsOf(() => make({ type: 'code-storage', org: 'acme', key: 'x' }))).toEqual([expect.stringMatching(/^git\.key: is not a known field/)])
    expect(await problemsOf(() => make({ type: 'code-storage', org: 'acme' }))).toEqual([expect.stringMatching(/PIERRE_PRIVATE_KEY is not set/)])
    const garbled = await problemsOf(() => make({ type: 'code-storage', org: 'acme' }, { PIERRE_PRIVATE_KEY: 'hunter2' }))
    expect(garbled.join()).toMatch(/key/i)
    expect(garbled.join()).not.toContain('hunter2')
    expect(await problemsOf(() => make({ type: 'https', url: 'https://x' }))).toEqual([expect.stringMatching(/^git\.token: give either token/)])
  })
})
