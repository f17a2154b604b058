import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { devConfigPath, loadConfig, parseConfig } from '../../src/config/load.js'
import { identify } from '../../src/providers/local/process-identity.js'
import { environmentFields } from '../../src/config/environment.js'
import { InvalidInputError } from '../../src/job/errors.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-config-'))
})
afterEach(() => rm(folder, { recursive: true, force: true, maxRetries: 10 }))

async function write(name: string, text: string): Promise<string> {
  const path = join(folder, name)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
  return path
}

async function problemsOf(work: Promise<unknown> | (() => unknown)): Promise<readonly string[]> {
  try {
    await (typeof work === 'function' ? Promise.resolve().then(work) : work)
  } catch (error) {
    if (error instanceof InvalidInputError) return error.problems
    throw error
  }
  throw new Error('was accepted')
}

describe('where the configuration comes from', () => {
  it('is the defaults when there is no file', async () => {
    const { config, path } = await loadConfig({ directory: folder, environment: {} })
    expect(path).toBeUndefined()
    expect(config).toMatchObject({
      deployment: 'default',
      redis: { url: 'redis://127.0.0.1:6379' },
      queue: { prefix: '{switchyard}' },
      providers: [],
      consumer: { maxJobs: 200, leaseMs: 15_000, secrets: [] },
      board: { host: '127.0.0.1', writable: false },
    })
  })

  it('is a TypeScript file with types and defineConfig', async () => {
    await write(
      'switchyard.config.ts',
      `import { defineConfig } from 'switchyard/config'
       const sandboxes: number = 3
       export default defineConfig({ deployment: 'from-ts', providers: [{ name: 'a', type: 'local', limit: { sandboxes } }] })`,
    )
    const { config } = await loadConfig({ directory: folder, environment: {} })
    expect(config.deployment).toBe('from-ts')
    expect(config.providers).toEqual([{ name: 'a', type: 'local', limit: { sandboxes: 3 } }])
  })

  it('is a JavaScript module', async () => {
    await write('switchyard.config.mjs', `export default { deployment: 'from-js' }`)
    expect((await loadConfig({ directory: folder, environment: {} })).config.deployment).toBe('from-js')
  })

  it('is a JSON file', async () => {
    const path = await write('other.json', '{ "deployment": "from-json" }')
    expect((await loadConfig({ path, environment: {} })).config.deployment).toBe('from-json')
    expect((await loadConfig({ directory: folder, environment: { SWITCHYARD_CONFIG: 'other.json' } })).path).toBe(path)
  })

  it('is what "switchyard dev" left, unless the folder has a file of its own and that dev has died', async () => {
    const left = await write(devConfigPath, '{ "deployment": "dev" }')
    expect((await loadConfig({ directory: folder, environment: {} })).path).toBe(left)
    const own = await write('switchyard.config.json', '{ "deployment": "own" }')
    const found = async () => (await loadConfig({ directory: folder, environment: {} })).config.deployment
    expect(await found()).toBe('own')
    await write('.switchyard/dev/owner.json', JSON.stringify({ ...(await identify(process.pid)), origins: [] }))
    expect(await loadConfig({ directory: folder, environment: {} })).toMatchObject({ path: left, warnings: [`the "switchyard dev" that runs here is used, and not ${own}; for that one give --config`] })
    expect((await loadConfig({ directory: folder, environment: { SWITCHYARD_CONFIG: own } })).config.deployment).toBe('own')
    await write('.switchyard/dev/owner.json', JSON.stringify({ pid: process.pid, startTime: 'another', origins: [] }))
    expect(await found()).toBe('own')
  })

  it('is overridden by the environment, field by field', async () => {
    await write('switchyard.config.json', '{ "deployment": "file", "queue": { "name": "file", "prefix": "{file}" } }')
    const { config, warnings } = await loadConfig({
      directory: folder,
      environment: {
        SWITCHYARD_REDIS_URL: 'rediss://redis.example:6380',
        SWITCHYARD_QUEUE_NAME: 'env',
        SWITCHYARD_CONSUMER_MAX_JOBS: '7',
        SWITCHYARD_CONSUMER_SECRETS: 'A_KEY, B_KEY',
        SWITCHYARD_BOARD_WRITABLE: 'true',
        SWITCHYARD_REDIS: 'typo',
        SWITCHYARD_BOARD_PASSWORD: 'never read here',
        UNRELATED: 'x',
      },
    })
    expect(config).toMatchObject({
      deployment: 'file',
      redis: { url: 'rediss://redis.example:6380' },
      queue: { name: 'env', prefix: '{file}' },
      consumer: { maxJobs: 7, secrets: ['A_KEY', 'B_KEY'] },
      board: { writable: true },
    })
    expect(JSON.stringify(config)).not.toContain('never read here')
    expect(warnings).toEqual([expect.stringContaining('SWITCHYARD_REDIS: is not a variable that Switchyard knows')])
  })

  it('has a variable for each listed field, and each does something', async () => {
    const values: Record<string, string> = { SWITCHYARD_BOARD_WRITABLE: 'true', SWITCHYARD_LOG_LEVEL: 'debug', SWITCHYARD_REDIS_URL: 'redis://h:1', SWITCHYARD_QUEUE_PREFIX: '{x}', SWITCHYARD_CONSUMER_SECRETS: 'A_KEY', SWITCHYARD_REDIS_CLUSTER: 'a:1, b:2', SWITCHYARD_REDIS_SENTINELS: 'a:1' }
    const beside: Record<string, string> = { SWITCHYARD_REDIS_CERT_FILE: 'SWITCHYARD_REDIS_KEY_FILE', SWITCHYARD_REDIS_KEY_FILE: 'SWITCHYARD_REDIS_CERT_FILE', SWITCHYARD_REDIS_SENTINELS: 'SWITCHYARD_REDIS_SENTINEL_NAME' }
    for (const [name, field] of Object.entries(environmentFields)) {
      const sentinels = name.startsWith('SWITCHYARD_REDIS_SENTINEL_') ? { SWITCHYARD_REDIS_SENTINELS: 'a:1', SWITCHYARD_REDIS_SENTINEL_NAME: 'jobs' } : {}
      const changed = parseConfig({}, { ...sentinels, ...(beside[name] === undefined ? {} : { [beside[name]]: 'x' }), [name]: values[name] ?? '2048' })
      const at = (config: unknown) => field.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], config)
      expect(at(changed), name).not.toEqual(at(parseConfig({})))
    }
  })
})

describe('every mistake gets a sentence', () => {
  const limit = { sandboxes: 1 }
  const wrong: [string, unknown, string][] = [
    ['an unknown field', { reddis: {} }, 'reddis: is not a known field of configuration (did you mean "redis"?); remove it or check its spelling'],
    ['an unknown field inside', { queue: { nam: 'x' } }, 'queue.nam: is not a known field of queue (did you mean "name"?); remove it or check its spelling'],
    ['no object at all', [], 'configuration: must be an object of settings, such as { redis: { url: "redis://127.0.0.1:6379" } }'],
    ['a Redis URL with the path of a socket', { redis: { url: 'redis:///run/secret.sock' } }, 'redis.url: names no host; write "redis://host:port", or of a UNIX socket the path alone, such as "/run/redis.sock"'],
    ['a Redis URL with a name for a database', { redis: { url: 'redis://x:6379/secret' } }, 'redis.url: has a path that is no number of a database; write "redis://host:port" or "redis://host:port/1"'],
    ['a Redis URL of another kind', { redis: { url: 'http://secret@x' } }, 'redis.url: is not a Redis URL; write "redis://host:port", "rediss://host:port" (TLS) or the path of a UNIX socket'],
    ['a prefix without braces', { queue: { prefix: 'x' } }, 'queue.prefix: must be a name in braces such as "{switchyard}": the braces keep all keys in one slot of a Redis Cluster'],
    ['a deployment name with spaces', { deployment: 'My App' }, 'deployment: must be at most 20 lower-case letters, digits and "-", with no "-" at either end'],
    ['a provider name used twice', { providers: [{ name: 'a', type: 'local', limit }, { name: 'a', type: 'e2b', limit }] }, 'providers[1].name: "a" is used twice; give every provider a name of its own, also two accounts of one kind'],
    ['a provider without a type', { providers: [{ name: 'a', limit }] }, 'providers[0].type: is missing; give "local", "e2b", "modal", "daytona", "docker" or "custom"'],
    ['a provider without a limit', { providers: [{ name: 'a', type: 'local' }] }, 'providers[0].limit: is missing; give the number of sandboxes that may run at once, such as { sandboxes: 20 }'],
    ['a limit of nothing', { providers: [{ name: 'a', type: 'local', limit: { sandboxes: 0 } }] }, 'providers[0].limit.sandboxes: must be at least 1'],
    ['a git host of an unknown type', { git: { type: 'svn' } }, 'git.type: must be "code-storage" or "https"'],
    ['half a job', { consumer: { maxJobs: 1.5 } }, 'consumer.maxJobs: must be a whole number'],
    ['no number at all', { consumer: { leaseMs: '15s' } }, 'consumer.leaseMs: must be a number'],
    ['a negative time', { consumer: { leaseMs: -1 } }, 'consumer.leaseMs: must be at least 1'],
    ['an absurd wait', { consumer: { readWaitMs: 1e6 } }, 'consumer.readWaitMs: must be at most 20000'],
    ['a retention of no time', { consumer: { retentionMs: 5 } }, 'consumer.retentionMs: must be at least 60000 (a minute)'],
    ['a secret that is no name', { consumer: { secrets: ['A-KEY'] } }, 'consumer.secrets[0]: must be the name of an environment variable: letters, digits and "_", no digit first'],
    ['a log level', { logs: { level: 'loud' } }, 'logs.level: must be one of "trace", "debug", "info", "warn", "error", "fatal", "silent"'],
    ['a create rate of nothing', { providers: [{ name: 'a', type: 'local', limit: { sandboxes: 1, createsPerSecond: 0 } }] }, 'providers[0].limit.createsPerSecond: must be more than 0'],
    ['a price that is none', { providers: [{ name: 'a', type: 'local', limit, price: { perCpuHour: -1 } }] }, 'providers[0].price.perCpuHour: must be at least 0'],
    ['a policy that is not known', { placement: { policy: 'random' } }, 'placement.policy: must be "most-free", "priority", "cheapest", "fastest" or a function that orders providers'],
    ['a tenant without weight', { tenants: { acme: { weight: 0 } } }, 'tenants.acme.weight: must be more than 0'],
    ['a tenant with a cap of nothing', { tenants: { acme: { cap: 0 } } }, 'tenants.acme.cap: must be at least 1; leave it out for none'],
    ['a spec limit that is absurd', { limits: { specBytes: 1 } }, 'limits.specBytes: must be at least 1024'],
    ['a port', { board: { port: 70_000 } }, 'board.port: must be 0 (any free port) to 65535'],
  ]
  it.each(wrong)('%s', async (_what, input, sentence) => {
    expect(await problemsOf(() => parseConfig(input))).toContain(sentence)
  })

  it('all of them at once', async () => {
    expect(await problemsOf(() => parseConfig({ deployment: '', limits: { specBytes: 1 }, x: 1 }))).toHaveLength(3)
  })

  it('never repeats a Redis URL, which may hold a password', async () => {
    expect((await problemsOf(() => parseConfig({ redis: { url: 'http://:hunter2@h' } }))).join()).not.toContain('hunter2')
  })

  it('in a variable', async () => {
    expect(await problemsOf(() => parseConfig({}, { SWITCHYARD_CONSUMER_MAX_JOBS: 'many', SWITCHYARD_BOARD_WRITABLE: 'yes' }))).toEqual([
      'SWITCHYARD_CONSUMER_MAX_JOBS: must be a whole number',
      'SWITCHYARD_BOARD_WRITABLE: must be "true" or "false"',
    ])
  })

  it('in a file', async () => {
    const missing = join(folder, 'none.json')
    expect(await problemsOf(loadConfig({ path: missing, environment: {} }))).toEqual([`--config: there is no file ${missing}; give the path of a configuration file`])
    const broken = await write('broken.json', '{ "a": }')
    expect((await problemsOf(loadConfig({ path: broken, environment: {} })))[0]).toMatch(/broken\.json: is not valid JSON \(.+\); mend it at that place/)
    const yaml = await write('x.yaml', 'a: 1')
    expect((await problemsOf(loadConfig({ path: yaml, environment: {} })))[0]).toMatch(/"\.yaml" is not a kind of file that is read here/)
    const empty = await write('empty.ts', 'export const x = 1')
    expect((await problemsOf(loadConfig({ path: empty, environment: {} })))[0]).toMatch(/exports no default; end it with "export default defineConfig/)
    const throws = await write('throws.ts', `throw new Error('boom')`)
    expect((await problemsOf(loadConfig({ path: throws, environment: {} })))[0]).toMatch(/throws\.ts: can't be loaded \(.*boom.*\)/)
  })
})
