import { execFile, fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { Consumer, secretsFromEnvironment, type ConsumerOptions, type ConsumerSettings, type ProviderSlot } from '../../src/consumers/index.js'
import { generateDevelopmentKeys, startCodeStorage, startRedis, type CodeStorageServer, type EmbeddedRedis } from '../../src/embedded/index.js'
import { CodeStorageHost, HttpsGitHost, TokenMinter } from '../../src/git/index.js'
import { RedisUnavailableError } from '../../src/job/errors.js'
import { AgentQueue } from '../../src/producers/index.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import type { Provider } from '../../src/providers/provider.js'
import { createRedis, type RedisSettings } from '../../src/store/index.js'
import { loaderArgs, ownFile } from '../own-programs.js'

const execFileAsync = promisify(execFile)

const gitOptions = () => ({ maxBuffer: 64 * 1024 * 1024, env: { PATH: process.env['PATH'], HOME: '/dev/null', GIT_CONFIG_NOSYSTEM: '1', GIT_TERMINAL_PROMPT: '0' } })
const gitSettings = ['-c', 'user.name=Test', '-c', 'user.email=test@example.invalid', '-c', 'gc.auto=0']

/** Runs git on this machine, with nobody's configuration and nothing left running behind. */
export async function git(cwd: string, ...args: string[]): Promise<string> {
  const { stdout } = await execFileAsync('git', [...gitSettings, ...args], { cwd, ...gitOptions() })
  return stdout.trim()
}

/**
 * Waits for a condition; fails with what it was about. What lets itself be waited for is asked less often, which leaves the processor to what it waits for.
 * A producer gives up within a second on a Redis that does not answer, which a busy machine's may not: it is asked again.
 */
export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 120_000): Promise<void> {
  const begunMs = Date.now()
  let unanswered: RedisUnavailableError | undefined
  const asked = async () => {
    try {
      return await condition()
    } catch (error) {
      if (!(error instanceof RedisUnavailableError)) throw error
      unanswered = error
      return false
    }
  }
  while (!(await asked())) {
    const waitedMs = Date.now() - begunMs
    if (waitedMs > timeoutMs) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`, { cause: unanswered })
    await new Promise((resolve) => setTimeout(resolve, waitedMs < 1_000 ? 20 : waitedMs < 5_000 ? 50 : 100))
  }
}

/** Waits until a producer has its first connection. */
export async function reached(queue: AgentQueue): Promise<AgentQueue> {
  await until('the queue to be reached', () => queue.providers().then(() => true))
  return queue
}

/** What a consumer in a process of its own is told, as JSON in its environment; see ./consumer-process.ts. */
export interface ConsumerProcessOptions {
  readonly redis: RedisSettings
  readonly git: { readonly org: string; readonly privateKey: string; readonly storageUrl: string; readonly apiUrl: string }
  readonly stateDir: string
  /** One local provider for each, `local-a` and on. */
  readonly limits: readonly number[]
  readonly loopbackPorts: readonly number[]
  readonly credentials?: ProviderSlot['credentials']
  readonly settings: Partial<ConsumerSettings>
  /** As in a configuration, with what its variables hold. */
  readonly artifacts?: object | undefined
  readonly environment?: Readonly<Record<string, string>> | undefined
  /** The git host by HTTPS alone, with this API beside it. */
  readonly forge?: ForgeToUse | undefined
  /** The process stops itself, as by SIGSTOP, in the nth call of this name to its provider or git host; 1 is the first. With
   * `after` when the call was made; with `fails` that call then fails. */
  readonly freezeIn?: { readonly call: string; readonly nth: number; readonly after?: boolean; readonly fails?: boolean } | undefined
  /** See `endingProvider`. */
  readonly endFile?: string | undefined
  /** Serves probes as `switchyard consume` does, from before its start on, and says first where: `{ probes: url }`. */
  readonly probes?: boolean | undefined
}

export interface ForgeToUse {
  readonly kind: 'github' | 'gitlab' | 'bitbucket'
  readonly url: string
  readonly token: string
}

/** The local Code Storage as any HTTPS git host, with the API of another beside it. */
export function hostWithForge({ org, privateKey, storageUrl }: Pick<ConsumerProcessOptions['git'], 'org' | 'privateKey' | 'storageUrl'>, { kind, url, token }: ForgeToUse): HttpsGitHost {
  const minter = new TokenMinter({ org, privateKey })
  return new HttpsGitHost({
    url: storageUrl,
    token: async (repository, access) => ({ username: 't', ...(await minter.mint({ repository, scopes: [access === 'read' ? 'git:read' : 'git:write'], ttlSeconds: 120 })) }),
    api: { kind, url, token: () => Promise.resolve({ username: 'someone', token }) },
  })
}

/** Settings under which a test need not wait long for a dead consumer's jobs. */
export const quickSettings: Partial<ConsumerSettings> = { leaseMs: 1_500, stallCheckMs: 500, stopGraceMs: 500 }

export type ConsumerOverrides = Partial<Omit<ConsumerOptions, 'settings'>> & { settings?: Partial<ConsumerSettings> }

/** Starts a consumer within this process, and lists it with the others. */
export async function beginConsumer(
  consumers: Consumer[],
  options: ConsumerOverrides & Pick<ConsumerOptions, 'redis' | 'git' | 'log'>,
  providers: readonly Provider[],
  limits: readonly number[],
): Promise<Consumer> {
  const consumer = new Consumer({
    deployment: 'test',
    providers: providers.map((provider, index) => ({ provider, limit: { sandboxes: limits[index] ?? 1 } })),
    secrets: secretsFromEnvironment([]),
    ...options,
    settings: { ...quickSettings, ...options.settings },
  })
  consumers.push(consumer)
  await consumer.start()
  return consumer
}

/** An object of which some methods are others; the rest is its own. */
export function altered<Target extends object>(target: Target, changes: Partial<Target>): Target {
  return new Proxy(target, {
    get(_target, key) {
      if (Object.hasOwn(changes, key)) return Reflect.get(changes, key) as unknown
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

/** A call that gets no answer: fails once it is given up. */
export function unanswered(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    const onAbort = () => reject(signal?.reason instanceof Error ? signal.reason : new Error('given up'))
    if (signal?.aborted === true) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** What the runner was told to do in a call of `exec`, such as "push". */
export function verbOf({ script }: { readonly script: string }): string {
  const verb = /'[0-9a-f]{16}' '([a-z]+)'/.exec(script)?.[1] ?? 'other'
  return verb === 'push' && / 'checkpoint\//.test(script) ? 'push-checkpoint' : verb
}

export interface Deployment {
  readonly redis: EmbeddedRedis
  readonly storage: CodeStorageServer
  readonly host: CodeStorageHost
  readonly queue: AgentQueue
  readonly providers: readonly LocalProvider[]
  /** Lines that consumers logged, as JSON. */
  readonly logs: string[]
  readonly dir: string
  /** The git host's, for consumers in processes of their own. */
  readonly privateKey: string
  startConsumer(options?: ConsumerOverrides): Promise<Consumer>
  /** Starts a consumer in a process of its own, which can be killed; waits until it takes jobs. */
  startConsumerProcess(options?: Partial<Pick<ConsumerProcessOptions, 'settings' | 'freezeIn' | 'credentials' | 'endFile' | 'artifacts' | 'environment' | 'forge' | 'probes'>> & { readonly storageUrl?: string; readonly onMessage?: (message: unknown, child: ChildProcess) => void }): Promise<ChildProcess>
  /** Makes a repository with these files on `main`; returns the commit. */
  seed(repository: string, files: Readonly<Record<string, string>>): Promise<string>
  /** A fresh clone of a branch, ephemeral or not. Returns the folder. */
  checkout(repository: string, branch: string, ephemeral: boolean): Promise<string>
  /** Ends its consumers and sandboxes and empties Redis, for the next test: only the repositories stay, which take the longest to be made. */
  clear(): Promise<void>
  close(): Promise<void>
}

/** A whole deployment on this machine: Redis, Code Storage, two local providers, as many consumers as a test starts. */
export async function startDeployment(
  options: { limits?: readonly number[]; appendOnly?: boolean; readOnlyPaths?: readonly string[]; loopbackPorts?: readonly number[]; address?: (redis: EmbeddedRedis) => Promise<string | RedisSettings> } = {},
): Promise<Deployment> {
  const dir = await mkdtemp(join(tmpdir(), 'switchyard-e2e-'))
  const keys = generateDevelopmentKeys()
  const [redis, storage] = await Promise.all([
    startRedis({ appendOnly: options.appendOnly }),
    startCodeStorage({ dataDir: join(dir, 'storage'), org: 'acme', publicKeys: [keys.privateKey] }),
  ])
  const host = new CodeStorageHost({ org: 'acme', privateKey: keys.privateKey, storageUrl: storage.url, apiUrl: storage.apiUrl })
  const limits = options.limits ?? [4, 4]
  const open = { readOnlyPaths: [...(options.readOnlyPaths ?? [])], loopbackPorts: [...(options.loopbackPorts ?? [])] }
  const providers = limits.map((_limit, index) => new LocalProvider({ name: `local-${'abcdef'[index]}`, stateDir: join(dir, 'sandboxes'), ...open }))
  const address = (await options.address?.(redis)) ?? redis.url
  const settings: RedisSettings = typeof address === 'string' ? { url: address } : address
  const queue = await reached(new AgentQueue({ redis: settings }))
  const consumers: Consumer[] = []
  const children: ChildProcess[] = []
  const logs: string[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void logs.push(line) })
  let checkouts = 0

  async function endConsumers(): Promise<void> {
    for (const child of children.splice(0)) {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL')
        await once(child, 'exit')
      }
    }
    await Promise.all(consumers.splice(0).map((consumer) => consumer.stop()))
  }
  async function killSandboxes(): Promise<void> {
    for (const provider of providers) for await (const { id } of provider.list({}, { timeoutMs: 10_000 })) await provider.kill(id, { timeoutMs: 10_000 })
  }

  return {
    redis,
    storage,
    host,
    queue,
    providers,
    logs,
    dir,
    privateKey: keys.privateKey,
    async startConsumer(overrides = {}) {
      return await beginConsumer(consumers, { redis: settings, git: host, log, ...overrides }, providers, limits)
    },
    async startConsumerProcess(overrides = {}) {
      const told: ConsumerProcessOptions = {
        redis: settings,
        git: { org: 'acme', privateKey: keys.privateKey, storageUrl: overrides.storageUrl ?? storage.url, apiUrl: storage.apiUrl },
        stateDir: join(dir, 'sandboxes'),
        limits,
        loopbackPorts: open.loopbackPorts,
        credentials: overrides.credentials,
        freezeIn: overrides.freezeIn,
        endFile: overrides.endFile,
        artifacts: overrides.artifacts,
        environment: overrides.environment,
        forge: overrides.forge,
        probes: overrides.probes,
        settings: { ...quickSettings, ...overrides.settings },
      }
      const child = fork(ownFile('test/e2e/consumer-process.ts'), {
        execArgv: [...loaderArgs],
        env: { PATH: process.env['PATH'], CONSUMER: JSON.stringify(told) },
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      })
      children.push(child)
      if (overrides.onMessage !== undefined) child.on('message', (message) => overrides.onMessage?.(message, child))
      const started = new Promise<void>((resolve) => child.on('message', (message) => message === 'started' && resolve()))
      await Promise.race([started, once(child, 'exit').then(() => Promise.reject(new Error('the consumer did not start')))])
      return child
    },
    async seed(repository, files) {
      await host.client.createRepository(repository, 'main', { timeoutMs: 10_000 })
      const work = join(dir, `seed-${checkouts++}`)
      await mkdir(work)
      for (const [path, text] of Object.entries(files)) {
        await mkdir(dirname(join(work, path)), { recursive: true })
        await writeFile(join(work, path), text)
      }
      const access = await host.writeAccess(repository, { branch: 'main' })
      const target = new URL(access.url.replace('+ephemeral.git', '.git'))
      target.username = access.username
      target.password = access.token
      // All by one program: a process as large as this one takes longer to start one than that takes to run.
      const script = 'url=$1; shift; "$@" init -q -b main; "$@" add -A; "$@" commit -qm Begin; "$@" push -q "$url" main; "$@" rev-parse HEAD'
      const { stdout } = await execFileAsync('sh', ['-ec', script, 'sh', target.href, 'git', ...gitSettings], { cwd: work, ...gitOptions() })
      return stdout.trim()
    },
    async checkout(repository, branch, ephemeral) {
      const access = await host.readAccess(repository, { ephemeral })
      const url = new URL(access.url)
      url.username = access.username
      url.password = access.token
      const folder = join(dir, `checkout-${checkouts++}`)
      await git(dir, 'clone', '-q', '--branch', branch, url.href, folder)
      return folder
    },
    async clear() {
      await endConsumers()
      await killSandboxes()
      const client = createRedis(settings, 'commands')
      await client.flushall()
      client.disconnect()
      logs.length = 0
    },
    async close() {
      await endConsumers()
      await queue.close()
      await killSandboxes()
      for (const provider of providers) await provider.close()
      await storage.close()
      await redis.close()
      await rm(dir, { recursive: true, force: true, maxRetries: 10 })
    },
  }
}
