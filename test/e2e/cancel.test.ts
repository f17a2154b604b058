import { setTimeout as pause } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { ConsumerSettings } from '../../src/consumers/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import type { JobResult } from '../../src/job/result.js'
import type { JobSpecInput } from '../../src/job/spec.js'
import type { JobHandle } from '../../src/producers/job-handle.js'
import { AgentQueue } from '../../src/producers/index.js'
import { Keys } from '../../src/store/keys.js'
import type { Provider } from '../../src/providers/provider.js'
import { spanning, whole } from '../whole.js'
import { altered, reached, startDeployment, unanswered, until, verbOf, type Deployment } from './deployment.js'

// Wherever a job stands when it is cancelled, it ends as cancelled, its sandbox is dead and its last checkpoint is kept. How long
// that took is printed, and not asserted: two seconds are the aim on a machine that has nothing else to do.
// CI tries each way that an end takes, `npm run test:long` every moment.
let deployment: Deployment
beforeAll(async () => {
  deployment = await startDeployment({ limits: [2, 2] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterEach(() => deployment.clear())
afterAll(() => deployment.close())

async function alive(): Promise<string[]> {
  const ids: string[] = []
  for (const provider of deployment.providers) for await (const { id } of provider.list({}, { timeoutMs: 10_000 })) ids.push(id)
  return ids
}

/** A job's end waits for a kill for a moment only; what takes longer goes on, or is the reaper's. */
const nothingLeft = () => until('no sandbox to be left', async () => (await alive()).length === 0)

/** Cancels from a process of its own kind: a queue that knows nothing of the one that enqueued. */
async function cancel(job: JobHandle, phase: string, outcome: 'requested' | 'cancelled' = 'requested'): Promise<JobResult> {
  const elsewhere = await reached(new AgentQueue({ redis: { url: deployment.redis.url } }))
  try {
    const startMs = performance.now()
    expect(await elsewhere.job(job.jobId).cancel('changed my mind')).toBe(outcome)
    const result = await job.result({ timeoutMs: 150_000 })
    process.stdout.write(`cancel while ${phase}: ${Math.round(performance.now() - startMs)} ms\n`)
    expect(result).toMatchObject({ status: 'cancelled', error: { kind: 'cancelled', message: 'changed my mind' }, promoted: null })
    return result
  } finally {
    await elsewhere.close()
  }
}

async function begin(options: {
  limits?: readonly number[]
  change?: (provider: Provider) => Partial<Provider>
  host?: () => Partial<Deployment['host']>
  settings?: Partial<ConsumerSettings>
}): Promise<void> {
  await deployment.startConsumer({
    providers: (options.limits ?? [2]).map((sandboxes, index) => {
      const provider = deployment.providers[index]!
      return { provider: options.change === undefined ? provider : altered<Provider>(provider, options.change(provider)), limit: { sandboxes } }
    }),
    ...(options.host === undefined ? {} : { git: altered(deployment.host, options.host()) }),
    ...(options.settings === undefined ? {} : { settings: options.settings }),
  })
}

const enqueue = (spec: Partial<JobSpecInput> = {}) => deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo x > x.txt', 'sleep 600'], promote: { to: 'never' }, ...spec })

/** A provider whose commands of one kind never end. */
const hangsIn = (verb: string, reached: () => void) => (provider: Provider): Partial<Provider> => ({
  exec: (id, command, options) => {
    if (verbOf(command) !== verb) return provider.exec(id, command, options)
    reached()
    return unanswered(options.signal)
  },
})

function mark(): { reached: () => void; isReached: () => boolean } {
  let there = false
  return { reached: () => void (there = true), isReached: () => there }
}

describe('a job is cancelled', () => {
  it('while it waits in the queue', async () => {
    const job = await enqueue()
    const result = await cancel(job, 'waiting in the queue', 'cancelled')
    expect(result).toMatchObject({ attempts: [], branch: null })
    // The consumer that comes later has nothing to do with it.
    await deployment.startConsumer()
    const next = await enqueue({ steps: ['true'], push: false, promote: undefined })
    expect(await next.result({ timeoutMs: 150_000 })).toMatchObject({ status: 'succeeded' })
  })

  it('while it waits for a place', async () => {
    await begin({ limits: [1] })
    const first = await enqueue()
    await until('the first job in its step', async () => (await first.status()).phase === 'steps')
    const job = await enqueue()
    await until('the second to wait', async () => (await job.status()).reason !== null)
    await cancel(job, 'waiting for a place', 'cancelled')
    await cancel(first, 'in its step, another one waiting')
    await nothingLeft()
  })

  it('while it is taken and its consumer asks the git host where it starts', async () => {
    const { reached, isReached } = mark()
    await begin({ host: () => ({ resolve: (_repository, _ref, { signal }) => (reached(), unanswered(signal)) }) })
    const job = await enqueue()
    await until('the question', isReached)
    expect(await cancel(job, 'its consumer asks the git host', 'cancelled')).toMatchObject({ attempts: [], branch: null })
    await until('its place to be free', async () => (await deployment.queue.providers()).every(({ used }) => used === 0))
    await nothingLeft()
  })

  it.each(spanning<[string, (reached: () => void) => Parameters<typeof begin>[0]]>([
    [
      'asking the git host where it starts, for longer than at first',
      (reached) => {
        let calls = 0
        return {
          host: () => ({
            resolve: (_repository, _ref, { timeoutMs, signal }) => {
              if (++calls === 2) reached()
              return unanswered(AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal === undefined ? [] : [signal])]))
            },
          }),
        }
      },
    ],
    ['creating its sandbox, which hangs', (reached) => ({ change: () => ({ create: (_request, { signal }) => (reached(), unanswered(signal)) }) })],
    [
      'creating its sandbox, which came to be without an answer',
      (reached) => ({
        change: (provider) => ({
          create: async (request, options) => {
            await provider.create(request, { timeoutMs: options.timeoutMs })
            reached()
            return unanswered(options.signal)
          },
        }),
      }),
    ],
    ['fetching its repository, which hangs', (reached) => ({ change: hangsIn('clone', reached) })],
    ['making a checkpoint, which hangs', (reached) => ({ change: hangsIn('checkpoint', reached) })],
    ['pushing a checkpoint, which hangs', (reached) => ({ change: hangsIn('push-checkpoint', reached) })],
  ], 'creating its sandbox, which came to be without an answer', 'fetching its repository, which hangs', 'pushing a checkpoint, which hangs'))('while %s', async (what, options) => {
    const { reached, isReached } = mark()
    await begin(options(reached))
    const job = await enqueue()
    await until(what, isReached)
    await cancel(job, what)
    await nothingLeft()
  })

  it.each(spanning<[string, Partial<JobSpecInput>, string]>([
    ['in its setup', { setup: ['sleep 600'] }, 'setup'],
    ['in a silent step', { push: false, promote: undefined, steps: ['sleep 600'] }, 'steps'],
    ['in a step that prints all the time', { push: false, promote: undefined, steps: ['while :; do echo x; sleep 0.01; done'] }, 'steps'],
    ['in a step that ignores every signal', { push: false, promote: undefined, steps: ['trap "" TERM INT HUP; sleep 600 & sleep 600; sleep 600'] }, 'steps'],
  ], 'in its setup', 'in a step that ignores every signal'))('%s', async (what, spec, phase) => {
    await begin({})
    const job = await enqueue(spec)
    await until(what, async () => {
      const status = await job.status()
      return status.phase === phase && status.step !== null
    })
    await cancel(job, what)
    await nothingLeft()
  })

  it('in its second step: the checkpoint of the first is the result', async () => {
    await begin({})
    const job = await enqueue()
    await until('the second step', async () => (await job.status()).step?.startsWith('2/2') ?? false)
    const { checkpointSha } = await job.status()
    const result = await cancel(job, 'in its second step')
    expect(checkpointSha).not.toBeNull()
    expect(result).toMatchObject({ commit: checkpointSha, steps: [{ exitCode: 0 }], attempts: [{ outcome: 'cancelled' }] })
    const folder = await deployment.checkout('acme/web', result.branch!, true)
    expect(folder).not.toBe('')
    await nothingLeft()
  })

  it.each(spanning<[string, string[]]>([
    ['pushing its work, which hangs', ['echo x > x.txt', 'true']],
    ['pushing what a failed job has done, which hangs', ['echo x > x.txt', 'exit 3']],
  ], 'pushing what a failed job has done, which hangs'))('while %s', async (what, steps) => {
    const { reached, isReached } = mark()
    await begin({ change: hangsIn('push', reached) })
    const job = await enqueue({ steps })
    await until(what, isReached)
    const { checkpointSha } = await job.status()
    const result = await cancel(job, what)
    expect(result.commit).toBe(checkpointSha)
    expect(result.commit).not.toBeNull()
    await nothingLeft()
  })

  it.runIf(whole)('while what a timed-out job has done is pushed, which hangs', async () => {
    const { reached, isReached } = mark()
    await begin({ change: hangsIn('push', reached) })
    const job = await enqueue({ timeout: '8s' })
    await until('the push', isReached)
    await cancel(job, 'pushing what a timed-out job has done')
    await nothingLeft()
  })

  it.runIf(whole)('while its sandbox is lost and its provider does not say so', async () => {
    const { reached, isReached } = mark()
    let lost = false
    await begin({
      limits: [1, 1],
      settings: { readWaitMs: 1_000 },
      change: (provider) => ({
        exec: (id, command, options) => {
          if (!lost) return provider.exec(id, command, options)
          throw new InfrastructureError({ kind: 'transient', source: provider.name, message: 'no answer' })
        },
        get: (_id, { signal }) => (reached(), unanswered(signal)),
      }),
    })
    const job = await enqueue()
    await until('the second step', async () => (await job.status()).step?.startsWith('2/2') ?? false)
    lost = true
    await until('the question', isReached)
    const result = await cancel(job, 'its provider is asked after its sandbox')
    expect(result.commit).not.toBeNull()
    await nothingLeft()
  })

  it('while it moves to another provider, from one that answers nothing', async () => {
    const { reached, isReached } = mark()
    let down = null as string | null
    await begin({
      limits: [1, 1],
      settings: { readWaitMs: 1_000, patienceMs: 1_000 },
      change: (provider) => ({
        exec: (id, command, options) => {
          if (provider.name !== down) return provider.exec(id, command, options)
          throw new InfrastructureError({ kind: 'provider-down', source: provider.name, message: `${provider.name}: is down` })
        },
        kill: (id, options) => (provider.name === down ? unanswered(options.signal) : provider.kill(id, options)),
        create: (request, options) => (down === null ? provider.create(request, options) : (reached(), unanswered(options.signal))),
      }),
    })
    const job = await enqueue()
    await until('the second step', async () => (await job.status()).step?.startsWith('2/2') ?? false)
    const { sandboxId, provider } = await job.status()
    down = provider
    await until('the next sandbox', isReached)
    const result = await cancel(job, 'moving to another provider')
    expect(result.attempts).toMatchObject([{ outcome: 'lost' }, { outcome: 'cancelled' }])
    expect(result.commit).not.toBeNull()
    // What could not be killed is named in the record, for the reaper.
    expect(await alive()).toEqual([sandboxId])
  })

  it('at a provider that fails to kill for a while, and one where a kill takes long', async () => {
    let tries = 0
    let release: (() => void) | undefined
    await begin({
      limits: [1, 1],
      // Where the machine is too busy for four tries in the time that an end has for them, the reaper makes the last.
      settings: { callTimeoutMs: 5_000 },
      change: (provider) => ({
        kill: async (id, options) => {
          if (provider.name === 'local-a' && ++tries < 4) throw new InfrastructureError({ kind: 'transient', source: provider.name, message: 'try again' })
          if (provider.name === 'local-b') await new Promise<void>((resolve) => (release = resolve))
          await provider.kill(id, options)
        },
      }),
    })
    const job = await enqueue({ providers: { allow: ['local-a'] } })
    await until('the step', async () => (await job.status()).step !== null)
    await cancel(job, 'its provider fails to kill three times')
    await nothingLeft()
    expect(tries).toBe(4)
    const slow = await enqueue({ providers: { allow: ['local-b'] } })
    await until('the step', async () => (await slow.status()).step !== null)
    await cancel(slow, 'its provider takes long to kill')
    release?.()
    await until('the sandbox to be dead all the same', async () => (await alive()).length === 0)
  })

  it('while the connection that tells of it is away: its next look finds the request', async () => {
    await begin({})
    const job = await enqueue({ push: false, promote: undefined, steps: ['sleep 600'] })
    await until('the step', async () => (await job.status()).step !== null)
    const redis = new Redis(deployment.redis.url)
    try {
      // Nobody hears what is published meanwhile.
      await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
      await cancel(job, 'its consumer does not hear')
    } finally {
      redis.disconnect()
    }
    await nothingLeft()
  })

  // Missed or late, a request was heard by the next run of the job, which was in hand and had not begun.
  it('and is run again: neither the request to the run before nor its signal ends the new one', async () => {
    const { reached, isReached } = mark()
    let answersAfterMs = 0
    await begin({
      host: () => ({
        resolve: async (...asked) => {
          if (answersAfterMs > 0) reached()
          await pause(answersAfterMs)
          return await deployment.host.resolve(...asked)
        },
      }),
      settings: { leaseMs: 300 },
    })
    const job = await enqueue({ push: false, promote: undefined, steps: ['echo began; sleep 600'] })
    await until('the step', async () => (await job.status()).step !== null)
    await cancel(job, 'in its step, to be run again')
    answersAfterMs = 1_500
    expect(await deployment.queue.retry(job.jobId)).toBe('retried')
    const redis = new Redis(deployment.redis.url)
    try {
      await until('it is in hand again', isReached)
      // Its consumer looks for requests several times until the host answers and the run begins.
      await until('the new run', async () => {
        await redis.publish(new Keys().cancelChannel(), JSON.stringify({ jobId: job.jobId, reason: 'the one before' }))
        return (await job.status()).phase !== null
      })
      await until('the step, again', async () => (await job.status()).step !== null)
      await redis.publish(new Keys().cancelChannel(), JSON.stringify({ jobId: job.jobId, reason: 'the one before' }))
      await cancel(job, 'in its second run')
    } finally {
      redis.disconnect()
    }
    await nothingLeft()
  }, 300_000)

  it('between two consumers: at once when the next one comes', async () => {
    const first = await deployment.startConsumer()
    const job = await enqueue()
    await until('the second step', async () => (await job.status()).step?.startsWith('2/2') ?? false)
    const { checkpointSha } = await job.status()
    await first.stop()
    expect(await job.cancel('changed my mind')).toBe('requested')
    await deployment.startConsumer()
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result).toMatchObject({ status: 'cancelled', error: { message: 'changed my mind' }, commit: checkpointSha })
    await nothingLeft()
  })

  it('in the middle of a hand-over with another consumer there', async () => {
    const first = await deployment.startConsumer()
    const job = await enqueue()
    await until('the second step', async () => (await job.status()).step?.startsWith('2/2') ?? false)
    await deployment.startConsumer()
    const stopped = first.stop()
    await cancel(job, 'handed over')
    await stopped
    await nothingLeft()
  })

  it('after its consumer was killed: at the next take-over', async () => {
    const first = await deployment.startConsumerProcess()
    const job = await enqueue()
    await until('the second step', async () => (await job.status()).step?.startsWith('2/2') ?? false)
    await deployment.startConsumer()
    first.kill('SIGKILL')
    await cancel(job, 'its consumer is dead (lease 1.5 s, look every 0.5 s)')
    await nothingLeft()
  })
})
