import { setTimeout as pause } from 'node:timers/promises'
import { random } from '../chaos/random.js'
import { check } from './checks.js'
import { chooseOperation } from './operations.js'
import { settle } from './settle.js'
import type { WalkSettings } from './settings.js'
import { World } from './world.js'

export interface Walked {
  /** A sentence each. */
  readonly findings: readonly string[]
  /** What consumers warned of, and how often. */
  readonly warnings: ReadonlyMap<string, number>
  readonly summary: string
  readonly trace: readonly string[]
}

/** The longest time between two steps; where jobs are to come to a certain phase, there must be room for each. */
const mostPauseMs = 60
const mostPauseOfPhasesMs = 250

/** Walks, waits until all is quiet, and checks what is left. */
export async function walk(seed: number, settings: WalkSettings): Promise<Walked> {
  const drawn = random(`queue walk ${seed}`)
  const before = resources()
  const world = await World.open(settings, drawn.fork('consumers'))
  const steps = await takeSteps(world, (step) => drawn.fork(`step ${step}`))
  const settlesAt = performance.now()
  const unfinished = await settle(world)
  // What has not ended breaks every other rule as well.
  const findings = unfinished.length > 0 ? [...unfinished, ...world.journal.faults] : await check(world)
  const summary = `${steps} steps, ${world.jobs.length} jobs, quiet after ${((performance.now() - settlesAt) / 1000).toFixed(1)} s`
  findings.push(...(await world.close()), ...(await whatIsLeft(before)))
  return { findings, warnings: world.journal.warnings, summary, trace: world.journal.lines }
}

/** Does one thing after another without waiting for the one before. @returns how many. */
async function takeSteps(world: World, draws: (step: number) => ReturnType<typeof random>): Promise<number> {
  const { settings } = world
  const underWay = new Set<Promise<void>>()
  const beganAt = performance.now()
  const lengthMs = settings.seconds * 1000
  let toFlush = settings.flush
  let steps = 0
  for (; performance.now() - beganAt < lengthMs; steps++) {
    if (toFlush && performance.now() - beganAt > lengthMs / 2) {
      toFlush = false
      await world.flush()
    }
    const own = draws(steps)
    const work = takeStep(world, own).finally(() => underWay.delete(work))
    underWay.add(work)
    await pause(own.whole(0, settings.phases ? mostPauseOfPhasesMs : mostPauseMs))
  }
  await Promise.all(underWay)
  return steps
}

async function takeStep(world: World, drawn: ReturnType<typeof random>): Promise<void> {
  const { journal, settings, sides } = world
  const operation = chooseOperation(drawn, settings)
  const side = drawn.chance(0.7) ? world.main : drawn.pick(sides)
  journal.note('do', operation.name, side.name)
  try {
    journal.note('did', operation.name, (await operation.does({ world, random: drawn, side })) ?? '')
  } catch (error) {
    journal.threw(operation.name, error)
  }
}

/** What keeps this process alive, and how many of each kind; but for timers, of which BullMQ's worker leaves one for half a minute where it closes without Redis. */
function resources(): Map<string, number> {
  const counts = new Map<string, number>()
  for (const kind of process.getActiveResourcesInfo()) if (kind !== 'Timeout') counts.set(kind, (counts.get(kind) ?? 0) + 1)
  return counts
}

const closePatienceMs = 15_000

/** Connections of what was closed. */
async function whatIsLeft(before: ReadonlyMap<string, number>): Promise<string[]> {
  const giveUpAt = performance.now() + closePatienceMs
  for (;;) {
    const left = [...resources()].filter(([kind, count]) => count > (before.get(kind) ?? 0))
    if (left.length === 0) return []
    if (performance.now() > giveUpAt) return left.map(([kind, count]) => `${count} of ${kind} are left in this process, which had ${before.get(kind) ?? 0} before`)
    await pause(200)
  }
}
