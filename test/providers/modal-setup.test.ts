import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { ModalClient } from 'modal'
import { Status } from 'nice-grpc'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { parseInput } from '../../src/job/explain.js'
import { ModalProvider, modalProviderConfigSchema } from '../../src/providers/modal/index.js'
import { loaderArgs, ownFile } from '../own-programs.js'
import { loadDefinitions, methodNames } from '../servers/modal/definitions.js'
import { all, failure, options, startModal, type ModalFixture } from './modal-fixture.js'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
const adapter = ownFile('src/providers/modal/index.ts')

describe('setting Modal up', () => {
  let fixture: ModalFixture
  beforeAll(async () => {
    fixture = await startModal()
  })
  afterAll(() => fixture.close())
  beforeEach(() => fixture.server.plan.clear())

  /** A program of its own that uses the adapter as a consumer does. */
  const program = (text: string): [file: string, args: string[], options: { cwd: string; env: NodeJS.ProcessEnv }] => {
    const head = `import { ModalProvider, modalProviderConfigSchema } from '${adapter}'
const provider = new ModalProvider(modalProviderConfigSchema.parse({ serverUrl: '${fixture.server.url}' }))
const options = { timeoutMs: 20000 }
const request = (name) => ({ name, tags: { 'switchyard-job': name }, image: undefined, resources: {}, lifetimeMs: 600000, network: 'open', gitHosts: [] })
`
    const env = { ...process.env, MODAL_CONFIG_PATH: '/dev/null', MODAL_TOKEN_ID: fixture.server.tokenId, MODAL_TOKEN_SECRET: fixture.server.tokenSecret }
    return [process.execPath, [...loaderArgs, '--input-type=module', '-e', head + text], { cwd: root, env }]
  }

  it('names the environment variable that is missing', async () => {
    for (const [environment, missing] of [
      [{ MODAL_TOKEN_ID: undefined }, 'MODAL_TOKEN_ID'],
      [{ MODAL_TOKEN_SECRET: ' ' }, 'MODAL_TOKEN_SECRET'],
    ] as const) {
      const error = await failure(fixture.another({}, environment).check(options))
      expect(error).toMatchObject({ kind: 'auth' })
      expect(error.message).toContain(`${missing} is not set`)
    }
    const own = fixture.another({ tokenIdEnv: 'ACME_ID', tokenSecretEnv: 'ACME_SECRET' }, { ACME_ID: fixture.server.tokenId, ACME_SECRET: fixture.server.tokenSecret })
    await own.check(options)
  })

  it('takes a token that was changed meanwhile', async () => {
    let secret = 'as-old-secret'
    // As one that stands in a file.
    const changing = new ModalProvider(modalProviderConfigSchema.parse({ serverUrl: fixture.server.url }), {
      environment: { MODAL_TOKEN_ID: fixture.server.tokenId, get MODAL_TOKEN_SECRET() { return secret } },
    })
    expect(await failure(changing.check(options))).toMatchObject({ kind: 'auth' })
    secret = fixture.server.tokenSecret
    await changing.check(options)
    await changing.close()
  })

  it('says which token was refused and how to mend it, without the token, and retries nothing', async () => {
    const before = fixture.calls('token')
    const error = await failure(fixture.another({}, { MODAL_TOKEN_SECRET: 'as-wrong-secret' }).check(options))
    expect(error).toMatchObject({ kind: 'auth' })
    expect(error.message).toContain('give a valid Modal token')
    expect(`${error.message}${error.stack ?? ''}`).not.toContain('as-wrong-secret')
    expect(fixture.calls('token') - before).toBe(1)
  })

  it('warns of an app that is not there yet, creates nothing, and refuses an unknown environment', async () => {
    const provider = fixture.another({ app: 'not-there-yet' })
    expect(await provider.check(options)).toEqual([expect.stringContaining('"not-there-yet" does not exist in Modal yet')])
    expect([...fixture.server.world.apps.keys()]).not.toContain('/not-there-yet')
    const error = await failure(fixture.another({ environment: 'no-such-environment' }).check(options))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain("'no-such-environment' not found")
  })

  it('refuses configurations with a sentence for each mistake', () => {
    const problems = (config: unknown) => {
      try {
        parseInput(modalProviderConfigSchema, config, 'providers[0]')
        return []
      } catch (error) {
        return (error as { problems: string[] }).problems
      }
    }
    expect(problems({})).toEqual([])
    expect(problems({ tokenId: 'ak-1' })).toEqual([expect.stringContaining('tokenId')])
    expect(problems({ maxLifetime: '25h' })).toEqual([expect.stringContaining('between 1m and 24h')])
    expect(problems({ app: 'two words', serverUrl: 'modal.com', regions: [] })).toHaveLength(3)
    expect(JSON.stringify(modalProviderConfigSchema.parse({}))).not.toMatch(/ak-|as-/)
  })

  it('says what to install when the package is missing', async () => {
    const load = () => Promise.reject(Object.assign(new Error("Cannot find package 'modal'"), { code: 'ERR_MODULE_NOT_FOUND' }))
    const environment = { MODAL_TOKEN_ID: 'a', MODAL_TOKEN_SECRET: 'b' }
    const error = await failure(new ModalProvider(modalProviderConfigSchema.parse({}), { environment, load }).check(options))
    expect(error).toMatchObject({ kind: 'invalid' })
    expect(error.message).toContain('npm install modal@0.11.1')
  })

  it('warns of another version of the package than the one that was tested', async () => {
    const load = async () => {
      const sdk = await import('modal')
      return { ...sdk, ModalClient: class extends ModalClient { override version() { return '0.12.0' } } }
    }
    const environment = { MODAL_TOKEN_ID: fixture.server.tokenId, MODAL_TOKEN_SECRET: fixture.server.tokenSecret }
    const provider = new ModalProvider(modalProviderConfigSchema.parse({ serverUrl: fixture.server.url }), { environment, load })
    expect(await provider.check(options)).toContainEqual(expect.stringContaining('0.12.0'))
    await provider.close()
  })

  it('leaves the environment as it was, and uses the V2 backend whatever that says', async () => {
    const provider = fixture.another()
    process.env['MODAL_SANDBOX_V2'] = '0'
    try {
      const { id } = await provider.create(fixture.request(), options)
      expect(fixture.server.host.get(id)).toBeDefined()
      expect(process.env['MODAL_SERVER_URL']).toBeUndefined()
    } finally {
      delete process.env['MODAL_SANDBOX_V2']
    }
  })

  it('loads the SDK at the first call and not before', async () => {
    const hook = `data:text/javascript,${encodeURIComponent(`
      export async function load(url, context, next) {
        if (url.includes('/node_modules/modal/dist/')) process._rawDebug('LOADED ' + url)
        return next(url, context)
      }`)}`
    const [file, args, settings] = program(`console.error('IMPORTED'); await provider.check(options); console.error('CHECKED'); await provider.close()`)
    const register = `data:text/javascript,${encodeURIComponent(`import { register } from 'node:module'; register(${JSON.stringify(hook)})`)}`
    const { stderr } = await run(file, ['--import', register, ...args], settings)
    const lines = stderr.split('\n').map((line) => line.split(' ')[0]).filter((line) => ['IMPORTED', 'LOADED', 'CHECKED'].includes(line ?? ''))
    expect(lines).toEqual(['IMPORTED', 'LOADED', 'CHECKED'])
  })

  it('lets the process end by itself, also without a close', async () => {
    const { stdout } = await run(...program(`const { id } = await provider.create(request('ends'), options)
console.log((await provider.exec(id, { script: 'echo done' }, options)).stdout)`))
    expect(stdout).toBe('done\n\n')
  })

  it('goes on with a sandbox whose client was killed with SIGKILL in the middle of a command', async () => {
    const [file, args, settings] = program(`const { id } = await provider.create(request('orphan'), options)
console.log(id)
await provider.exec(id, { script: 'echo started >"$HOME/state"; (sleep 1; echo finished >>"$HOME/state") </dev/null >/dev/null 2>&1 & sleep 100' }, options)`)
    const child = spawn(file, args, { ...settings, stdio: ['ignore', 'pipe', 'inherit'] })
    const [id] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    const read = async () => (await fixture.provider.exec(id, { script: 'cat "$HOME/state" 2>/dev/null' }, options)).stdout
    await expect.poll(read).toBe('started\n')
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect((await all(fixture.provider.list({ 'switchyard-job': 'orphan' }, options))).map((sandbox) => sandbox.id)).toEqual([id])
    await expect.poll(read).toBe('started\nfinished\n')
    await fixture.provider.kill(id, options)
  })
})

describe('the protocol server', () => {
  it('finds its definitions in the installed package and answers UNIMPLEMENTED to what it has not', async () => {
    const { controlPlane, commandRouter, version } = loadDefinitions()
    expect(version).toBe('0.11.1')
    expect(methodNames(controlPlane)).toContain('sandboxCreateV2')
    expect(methodNames(commandRouter)).toContain('taskExecStdioRead')
    const fixture = await startModal()
    try {
      process.env['MODAL_SERVER_URL'] = fixture.server.url
      const client = new ModalClient({ tokenId: fixture.server.tokenId, tokenSecret: fixture.server.tokenSecret })
      await expect(client.queues.fromName('q')).rejects.toMatchObject({ code: Status.UNIMPLEMENTED })
    } finally {
      delete process.env['MODAL_SERVER_URL']
      await fixture.close()
    }
  })
})
