import { setTimeout as pause } from 'node:timers/promises'
import type { Random } from '../chaos/random.js'
import { by, providerNames, tenants } from './deployment.js'
import { parseJobSpec } from '../../src/job/spec.js'
import { madeData, racingSpec } from './made-jobs.js'
import type { Operation, Step } from './operation.js'
import { type Caught, points } from './phases.js'
import type { Side, World } from './world.js'

/** What is done to a job while one of its calls stands still. */
export const phaseOperations: readonly Operation[] = [{ name: 'catch a job', weight: 50, needs: 'phases', does: catchJob }]

interface Held {
  readonly world: World
  readonly random: Random
  readonly side: Side
  readonly jobId: string
  readonly caught: Caught
}

const patienceMs = 8_000

async function catchJob({ world, random, side }: Step): Promise<string> {
  const { phases } = world
  if (phases === undefined) return ''
  const point = random.pick(points)
  const when = random.pick(['before', 'after'] as const)
  const names = Array.from({ length: random.whole(1, 3) }, () => random.pick(Object.keys(actions) as (keyof typeof actions)[]))
  const key = `k${100 + world.number()}`
  const jobId = random.chance(0.9) ? `p${world.number()}` : ''
  const spec = racingSpec(random, world.settings, key)
  // By hand, so that nothing can come before it is waited for.
  const id = jobId === '' ? (await side.queue.enqueue(spec)).jobId : jobId
  const caughtOne = phases.at({ point, when, runId: side.keys.runId(id) }, patienceMs, async (caught) => {
    const held = { world, random, side, jobId: id, caught }
    for (const name of names) {
      world.journal.note('meanwhile', caught.runId, name)
      try {
        world.journal.note('was', caught.runId, name, (await actions[name](held)) ?? '')
      } catch (error) {
        world.journal.threw(`while ${caught.when} ${caught.point}: ${name}`, error)
      }
      if (random.chance(0.5)) await pause(random.pick([20, 150, 700]))
    }
    if (random.chance(0.3)) await pause(random.pick([500, 1_600, 3_500]))
  })
  if (jobId !== '') await side.bull.add('by hand', { spec: parseJobSpec(spec) }, { jobId, priority: 5 })
  world.added(side, id)
  return `${id} ${when} ${point}: ${(await caughtOne) ? names.join() : 'none came'}`
}

/** What it is now, as BullMQ has it. */
async function bullJob({ side, jobId }: Held) {
  const job = await side.bull.getJob(jobId)
  if (job === undefined) throw new Error(`${jobId} is not in the queue`)
  return job
}

async function newer({ world, random, side, jobId, caught }: Held, then: 'wait' | 'cancel-running' | 'cancel-waiting' | 'drop'): Promise<string[]> {
  const job = await side.bull.getJob(jobId)
  const repository = /"repository":"(guarded\/k\d+)"/.exec(JSON.stringify(job?.data ?? {}))?.[1]
  if (repository === undefined) return []
  const key = repository.slice('guarded/'.length)
  const spec = { ...racingSpec(random, world.settings, key), concurrency: { key, limit: 1, then } }
  world.journal.note('newer', caught.runId, then)
  const ids = (await side.queue.enqueueMany(Array.from({ length: random.pick([1, 1, 2]) }, () => spec))).map((each) => each.jobId)
  world.added(side, ...ids)
  return ids
}

const actions = {
  'newer: wait': (held: Held) => newer(held, 'wait'),
  'newer: cancel running': (held: Held) => newer(held, 'cancel-running'),
  'newer: cancel running too': (held: Held) => newer(held, 'cancel-running'),
  'newer: cancel waiting': (held: Held) => newer(held, 'cancel-waiting'),
  'newer: drop': (held: Held) => newer(held, 'drop'),
  'cancel': ({ side, jobId }: Held) => side.queue.job(jobId).cancel('the walk wants it'),
  'retry': ({ side, jobId, random }: Held) => side.queue.retry(jobId, { from: random.pick(['start', 'checkpoint']) }),
  'cancel and retry': async ({ side, jobId, random }: Held) => {
    await side.queue.job(jobId).cancel('the walk wants it')
    await pause(random.pick([0, 50, 400]))
    await side.queue.retry(jobId, { from: random.pick(['start', 'checkpoint']) })
  },
  'remove': async (held: Held) => await held.side.bull.remove(held.jobId),
  'remove by force': async (held: Held) => {
    const { side, jobId, world } = held
    // As an operator does by hand who finds it locked.
    await world.client.del(`${side.keys.job(jobId)}:lock`)
    await side.bull.remove(jobId)
  },
  'remove and add': async (held: Held) => {
    const { side, jobId, world, random } = held
    await world.client.del(`${side.keys.job(jobId)}:lock`)
    await side.bull.remove(jobId)
    await side.bull.add('by hand', madeData(random, world.settings), { jobId })
  },
  'move to failed': async (held: Held) => await (await bullJob(held)).moveToFailed(new Error('by hand'), '0', false),
  'move to completed': async (held: Held) => await (await bullJob(held)).moveToCompleted('by hand', '0', false),
  'move to delayed': async (held: Held) => await (await bullJob(held)).moveToDelayed(Date.now() + held.random.pick([0, 300, 1_500]), '0'),
  'move to wait': async (held: Held) => await (await bullJob(held)).moveToWait('0'),
  'discard the lock': async ({ world, side, jobId }: Held) => await world.client.del(`${side.keys.job(jobId)}:lock`),
  'promote': async (held: Held) => await (await bullJob(held)).promote(),
  'priority': async (held: Held) => await (await bullJob(held)).changePriority({ priority: held.random.pick([0, 7]) }),
  'a child': async (held: Held) => {
    const id = `ch${held.world.number()}`
    await held.side.bull.add('by hand', madeData(held.random, held.world.settings), { jobId: id, parent: { id: held.jobId, queue: held.side.bull.qualifiedName }, failParentOnFailure: true })
    held.world.added(held.side, id)
  },
  'clean': async ({ side, random }: Held) => await side.bull.clean(0, 3, random.pick(['active', 'failed', 'wait', 'prioritized', 'delayed'])),
  'freeze': ({ world, caught, random }: Held) => world.members.disturbOne(caught.holder, random, 'freezes'),
  'kill': ({ world, caught, random }: Held) => world.members.disturbOne(caught.holder, random, 'dies'),
  'stop': ({ world, caught, random }: Held) => world.members.disturbOne(caught.holder, random, 'leaves'),
  'lose sandboxes': async ({ world, random }: Held) => {
    random.pick(world.providers).die('transient')
    await pause(0)
  },
  'lose a sandbox': async ({ world, random }: Held) => await random.pick(world.providers).loseOne(random),
  'drain': async ({ world, random }: Held) => {
    const provider = random.pick(providerNames)
    await world.main.queue.operations.drainProvider(provider, { by, move: true })
    void pause(random.whole(200, 900)).then(() => world.main.queue.operations.resumeProvider(provider, { by })).catch((error: unknown) => world.journal.threw('resume', error))
  },
  'limit': async ({ world, random }: Held) => {
    const provider = random.pick(providerNames)
    await world.main.queue.operations.limitProvider(provider, 1, { by })
    void pause(random.whole(200, 900)).then(() => world.main.queue.operations.limitProvider(provider, null, { by })).catch((error: unknown) => world.journal.threw('limit', error))
  },
  'cap': async ({ world, random }: Held) => {
    const tenant = random.pick(tenants)
    await world.main.queue.operations.shareTenant(tenant, { weight: 1, cap: 1 }, { by, isNew: true })
    void pause(random.whole(200, 900)).then(() => world.main.queue.operations.shareTenant(tenant, null, { by })).catch((error: unknown) => world.journal.threw('share', error))
  },
} as const satisfies Record<string, (held: Held) => Promise<unknown>>
