import { Redis } from 'ioredis'
import { pino } from 'pino'
import { Consumer, secretsFromEnvironment, type ConsumerOptions, type ConsumerSettings, type ProviderSlot } from '../../src/consumers/index.js'
import { startRedis } from '../../src/embedded/index.js'
import type { GitHost } from '../../src/git/host.js'
import { InfrastructureError, type InfrastructureErrorFields } from '../../src/job/errors.js'
import type { JobResult } from '../../src/job/result.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import { AgentQueue } from '../../src/producers/index.js'
import { Keys, type ProviderLoad } from '../../src/store/index.js'
import type { CallOptions, ExecResult, Provider, SandboxInfo, SandboxRequest, ShellCommand } from '../../src/providers/provider.js'
import { inMemoryGitHost } from './git-host.js'
import { InMemoryProvider } from './provider.js'

/**
 * One job, sandbox, provider or repository is bad, twenty jobs are good: what the good ones notice of it. Without machines, so that
 * nothing but Switchyard's own decisions shows.
 */

/** The bad job's image, by which a provider tells its sandboxes from the others'. */
const badImage = 'bad'
/** The bad job's repository. */
const badRepository = 'bench/bad'

export interface Fault {
  readonly name: string
  /** What the bad job asks for besides its image and repository. */
  readonly job?: Partial<JobSpecInput>
  /** What happens in place of a call into the bad job's `nth` sandbox, from 0; undefined for what is right. */
  readonly exec?: (verb: string, nonce: string, nth: number, sinceMs: number) => ExecResult | InfrastructureErrorFields | undefined
  /** The bad job's creates at the provider "a" never end; likewise the kills. */
  readonly hangs?: 'create' | 'kill'
  /** What the git host answers for the bad job's repository. */
  readonly git?: InfrastructureErrorFields
  /** A second consumer takes part in which this is wrong; the first one is right. */
  readonly consumer?: 'git-key' | 'provider-key' | 'no-secret' | 'one-provider-less'
  /** What is done to the bad job's spec in the queue: a field, or a value, of a later release. */
  readonly newer?: 'field' | 'value'
  readonly settings?: Partial<ConsumerSettings>
  /** What is right for the bad job: how it ends, whose fault it was, and how many attempts it took. */
  readonly ends: { readonly status: JobResult['status']; readonly attempts: number; readonly code?: string; readonly owner?: string; readonly firstAttempt?: string }
}

const answer = (nonce: string, ...lines: string[]): ExecResult => ({ exitCode: 0, stdout: [`@switchyard ${nonce} begin`, ...lines, `@switchyard ${nonce} end`].join('\n') })
const said = (nonce: string, text: string) => answer(nonce, 'fail git', 'detail:', Buffer.from(text).toString('base64'), '.')
const refused = 'remote: error: GH006: Protected branch update failed\n ! [remote rejected] a -> b (protected branch hook declined)'
const fault = (kind: InfrastructureErrorFields['kind'], message: string): InfrastructureErrorFields => ({ kind, source: 'a', message: `a: exec: ${message}` })
const stepVerbs = ['start', 'read']

export const faults: readonly Fault[] = [
  {
    name: 'a sandbox whose command service refuses the key',
    exec: (verb, _nonce, nth) => (nth === 0 && stepVerbs.includes(verb) ? fault('auth', 'unauthenticated (401)') : undefined),
    ends: { status: 'succeeded', attempts: 2, firstAttempt: 'SWY_SANDBOX_REFUSED' },
  },
  {
    name: 'a job that answers in the runner’s place',
    exec: (verb, nonce) => (verb === 'read' || verb === 'start' ? answer(nonce, 'ok -', 'code NaN', 'out-size 1e999', 'err-size -1') : undefined),
    ends: { status: 'failed', attempts: 1, code: 'SWY_RUNNER_ANSWER', owner: 'job' },
  },
  {
    name: 'a job that speaks of output which is never there',
    exec: (verb, nonce) => (verb === 'read' || verb === 'start' ? answer(nonce, 'ok -', 'code 0', 'out-size 9007199254740991', 'err-size 0', 'out-length 0', 'err-length 0') : undefined),
    ends: { status: 'failed', attempts: 1, code: 'SWY_RUNNER_ANSWER', owner: 'job' },
  },
  {
    name: 'a job whose commands break every call into its sandbox',
    exec: (verb) => (stepVerbs.includes(verb) ? { exitCode: 1, stdout: 'sh: syntax error' } : undefined),
    ends: { status: 'failed', attempts: 2, code: 'SWY_SANDBOX_BROKEN', owner: 'job', firstAttempt: 'SWY_SANDBOX_BROKEN' },
  },
  {
    name: 'a push that the git host refuses',
    job: { push: { message: 'x' } },
    exec: (verb, nonce) => (verb === 'push' ? said(nonce, refused) : undefined),
    ends: { status: 'failed', attempts: 1, code: 'SWY_PUSH_REFUSED', owner: 'job' },
  },
  {
    name: 'a sandbox that can’t be reached for a while',
    exec: (verb, _nonce, nth, sinceMs) => (stepVerbs.includes(verb) && nth === 0 && sinceMs < 4_000 ? fault('transient', 'bad gateway (502)') : undefined),
    ends: { status: 'succeeded', attempts: 1 },
  },
  {
    name: 'a create that never ends, while another provider has room',
    hangs: 'create',
    settings: { createPatienceMs: 500 },
    ends: { status: 'succeeded', attempts: 2, firstAttempt: 'SWY_CREATE_GIVEN_UP' },
  },
  { name: 'a kill that never ends', hangs: 'kill', ends: { status: 'succeeded', attempts: 1 } },
  {
    name: 'a repository that the git host refuses',
    git: { kind: 'auth', owner: 'git-repository', source: 'in-memory', message: 'in-memory: answered 403' },
    ends: { status: 'failed', attempts: 0, code: 'SWY_GIT_REPOSITORY_REFUSED', owner: 'git-repository' },
  },
  {
    name: 'a repository that does not exist',
    git: { kind: 'invalid', owner: 'job', source: 'in-memory', message: 'repository "bench/bad" does not exist' },
    ends: { status: 'failed', attempts: 0, code: 'SWY_JOB_INVALID', owner: 'job' },
  },
  { name: 'a consumer whose git key is refused', consumer: 'git-key', ends: { status: 'succeeded', attempts: 1 } },
  { name: 'a consumer whose provider key is refused', consumer: 'provider-key', ends: { status: 'succeeded', attempts: 1 } },
  { name: 'a consumer that lacks a secret', consumer: 'no-secret', job: { secrets: ['KEY'] }, ends: { status: 'succeeded', attempts: 1 } },
  { name: 'a consumer that has one provider less', consumer: 'one-provider-less', job: { providers: { allow: ['b'] } }, ends: { status: 'succeeded', attempts: 1 } },
  {
    name: 'a job whose secret nobody has',
    job: { secrets: ['NOBODY_HAS_IT'] },
    settings: { unrunnableGraceMs: 1_000 },
    ends: { status: 'failed', attempts: 0, code: 'SWY_JOB_UNRUNNABLE', owner: 'deployment' },
  },
  { name: 'a spec with a field of a later release', newer: 'field', settings: { unrunnableGraceMs: 1_000 }, ends: { status: 'cancelled', attempts: 0, code: 'SWY_CANCELLED' } },
  {
    name: 'a spec with a value of a later release',
    newer: 'value',
    settings: { unrunnableGraceMs: 1_000 },
    ends: { status: 'failed', attempts: 0, code: 'SWY_JOB_UNRUNNABLE', owner: 'deployment' },
  },
]

/** The bad job's sandboxes at all providers, in order, with the time of the first call that went wrong. */
type BadSandboxes = Map<string, { readonly nth: number; sinceMs: number | undefined }>

class FaultyProvider extends InMemoryProvider {
  constructor(
    name: string,
    private readonly faulty: Fault | null,
    private readonly bad: BadSandboxes,
  ) {
    super(name)
  }

  override async create(request: SandboxRequest, options?: CallOptions): Promise<SandboxInfo> {
    const bad = request.image === badImage
    if (bad && this.faulty?.hangs === 'create' && this.name === 'a') await never(options?.signal)
    const info = await super.create(request)
    if (bad) this.bad.set(info.id, { nth: this.bad.size, sinceMs: undefined })
    return info
  }

  override async exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult> {
    const bad = this.bad.get(sandboxId)
    const [, nonce = '', verb = ''] = /'([0-9a-f]{16})' '([a-z]+)'/.exec(command.script) ?? []
    if (bad === undefined || this.faulty?.exec === undefined || verb === '') return super.exec(sandboxId, command, options)
    const wrong = this.faulty.exec(verb, nonce, bad.nth, bad.sinceMs === undefined ? 0 : Date.now() - bad.sinceMs)
    if (wrong === undefined) return super.exec(sandboxId, command, options)
    bad.sinceMs ??= Date.now()
    if ('kind' in wrong) throw new InfrastructureError(wrong)
    return wrong
  }

  override async kill(sandboxId: string): Promise<void> {
    if (this.faulty?.hangs === 'kill' && this.bad.has(sandboxId)) await never(undefined)
    return super.kill(sandboxId)
  }
}

/** Not even an abort ends it, as with SDKs that know of none. */
function never(_signal: AbortSignal | undefined): Promise<never> {
  return new Promise(() => undefined)
}

function gitHost(faulty: Fault | null): GitHost {
  const wrong = faulty?.git
  if (wrong === undefined) return inMemoryGitHost
  return {
    ...inMemoryGitHost,
    resolve: (repository, ref, options) => (repository === badRepository ? Promise.reject(new InfrastructureError(wrong)) : inMemoryGitHost.resolve(repository, ref, options)),
  }
}

/** What is wrong with the second consumer. */
function wrongConsumer(wrong: NonNullable<Fault['consumer']>, { git, providers }: ConsumerOptions): Partial<ConsumerOptions> {
  const refuses = (source: string) => () => Promise.reject(new InfrastructureError({ kind: 'auth', owner: 'consumer-keys', source, message: `${source}: the key is refused (401)` }))
  switch (wrong) {
    case 'git-key':
      return { git: { ...git, check: refuses('in-memory'), resolve: refuses('in-memory') } }
    case 'provider-key':
      return { providers: providers.map((slot) => (slot.provider.name === 'a' ? { ...slot, provider: Object.assign(Object.create(slot.provider) as Provider, { check: refuses('a'), create: refuses('a') }) } : slot)) }
    case 'no-secret':
      return { secrets: secretsFromEnvironment([]) }
    case 'one-provider-less':
      return { providers: providers.filter(({ provider }) => provider.name !== 'b') }
  }
}

/** Changes a job in the queue into what a later release might have written. */
async function makeNewer(redisUrl: string, jobId: string, what: NonNullable<Fault['newer']>): Promise<void> {
  const redis = new Redis(redisUrl)
  const key = new Keys().job(jobId)
  const data = JSON.parse((await redis.hget(key, 'data')) ?? '{}') as { spec: object }
  const spec = { ...data.spec, ...(what === 'field' ? { colour: 'blue' } : { network: 'vpn-only' }) }
  await redis.hset(key, 'data', JSON.stringify({ ...data, spec }))
  redis.disconnect()
}

export interface BlastReport {
  readonly bad: JobResult | null
  readonly good: readonly JobResult[]
  /** From the good jobs' enqueueing, when the consumer has started and the bad one waits, until the last one's result, in milliseconds. */
  readonly goodMs: number
  readonly loads: readonly ProviderLoad[]
  /** What the bad job's log says in Switchyard's own words. */
  readonly said: readonly string[]
  readonly logs: readonly string[]
}

/**
 * Runs twenty good jobs, and beside them the bad one unless `faulty` is null.
 * @param options.goodOnly what becomes of the bad one is not waited for: it is cancelled when the good ones have ended.
 * @param options.asWith without that fault, but with what it brings along: a second consumer, and what the good jobs need.
 */
export async function blast(faulty: Fault | null, options: { readonly goodOnly?: boolean; readonly asWith?: Fault } = {}): Promise<BlastReport> {
  const redis = await startRedis()
  const logs: string[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void logs.push(line) })
  const queue = new AgentQueue({ redis: { url: redis.url } })
  const badOnes: BadSandboxes = new Map()
  const providers: ProviderSlot[] = ['a', 'b'].map((name) => ({ provider: new FaultyProvider(name, faulty, badOnes), limit: { sandboxes: 25 } }))
  const settings = { leaseMs: 5_000, stallCheckMs: 2_000, callTimeoutMs: 5_000, ...faulty?.settings }
  const secrets = secretsFromEnvironment(['KEY'], { KEY: 'a-secret-value' })
  const right: ConsumerOptions = { deployment: 'blast', redis: { url: redis.url }, git: gitHost(faulty), providers, secrets, policy: 'priority', log, settings }
  const consumer = new Consumer(right)
  // Whatever is done to a job in the queue is done before somebody takes it.
  if (faulty?.newer === undefined) await consumer.start()
  const alike = faulty ?? options.asWith
  const other = alike?.consumer === undefined ? null : new Consumer({ ...right, ...(faulty?.consumer === undefined ? {} : wrongConsumer(faulty.consumer, right)) })
  await other?.start()
  try {
    const good: JobSpecInput = { repository: 'bench/good', push: false, steps: ['sleep 0.4', 'sleep 0.4'] }
    const bad = faulty === null ? null : await queue.enqueue({ repository: badRepository, image: badImage, push: false, steps: ['sleep 0.2', 'sleep 0.4 # line every 0.1'], timeout: '2m', ...faulty.job })
    if (bad !== null && faulty?.newer !== undefined) {
      await makeNewer(redis.url, bad.jobId, faulty.newer)
      await consumer.start()
    }
    // What the wrong consumer lacks, all jobs need.
    const needed = alike?.consumer === undefined ? {} : alike.job
    const beganAtMs = Date.now()
    const handles = await queue.enqueueMany(Array.from({ length: 20 }, () => ({ ...good, ...needed })))
    const results = await Promise.all(handles.map((handle) => handle.result({ timeoutMs: 120_000 })))
    const goodMs = Date.now() - beganAtMs
    // Nothing ends it but somebody who wants it to.
    if (options.goodOnly === true || faulty?.newer === 'field') await bad?.cancel('no consumer can read it, or nobody waits for it')
    const badResult = (await bad?.result({ timeoutMs: 120_000 })) ?? null
    const lines: string[] = []
    if (bad !== null) for await (const line of bad.logs({ follow: false })) if (line.stream === 'system') lines.push(line.text)
    return { bad: badResult, good: results, goodMs, loads: await queue.providers(), said: lines, logs }
  } finally {
    await other?.stop()
    await consumer.stop()
    await queue.close()
    await redis.close()
  }
}
