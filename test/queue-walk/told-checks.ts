import type { JobEvent } from '../../src/events/index.js'
import { deploymentFigures } from '../../src/monitor/index.js'
import type { JobStatus } from '../../src/job/status.js'
import type { Rule } from './checks.js'
import { sandboxesAtMost } from './deployment.js'
import { groupNames, runOf } from './groups.js'
import { guarded } from './made-jobs.js'
import type { Write } from './phases.js'
import type { Side } from './world.js'

/** Whether what is told of jobs, by events, lists, figures and accounts, agrees with what became of them. */
export const toldRules: readonly Rule[] = [everyGroupWasTold, eventsComeInOrder, listsAgree, figuresAreZero, costsAgree, noLimitWasPassed, keysGuard]

async function everyGroupWasTold({ world, told }: Parameters<Rule>[0]): Promise<string[]> {
  const findings: string[] = []
  for (const name of groupNames) {
    const seen = new Set([...(world.groups.handled.get(name)?.values() ?? [])].flatMap((events) => events.map(({ id }) => id)))
    for (const { id, sequence } of told) if (!seen.has(id)) findings.push(`group ${name} was never told of ${id} (${sequence ?? ''})`)
    for (const [run, events] of world.losesWrites ? [] : (world.groups.handled.get(name) ?? [])) {
      const first = [...new Set(events.map(({ sequence }) => sequence))]
      for (const [index, sequence] of first.entries()) if (index > 0 && isBefore(sequence, first[index - 1] ?? '')) findings.push(`group ${name} was told of ${sequence} of run ${run} after ${first[index - 1] ?? ''}`)
    }
  }
  return findings
}

function isBefore(one: string, other: string): boolean {
  const [ms = 0, n = 0] = one.split('-').map(Number)
  const [otherMs = 0, otherN = 0] = other.split('-').map(Number)
  return ms < otherMs || (ms === otherMs && n < otherN)
}

/** What was told of one run, in its order: nothing behind its end, and nothing of a sandbox before one was there. */
async function eventsComeInOrder({ told }: Parameters<Rule>[0]): Promise<string[]> {
  const runs = new Map<string, JobEvent[]>()
  for (const event of told) {
    const run = runOf(event)
    runs.set(run, [...(runs.get(run) ?? []), event])
  }
  return [...runs].flatMap(([run, events]) => {
    const kinds = events.map(({ type }) => type.slice('dev.switchyard.job.'.length))
    const findings: string[] = []
    const end = kinds.findIndex((kind) => ['succeeded', 'failed', 'cancelled'].includes(kind))
    if (end === -1) {
      // Of what BullMQ dropped before anybody had begun it no end is told.
      if (kinds.some((kind) => kind !== 'enqueued')) findings.push(`run ${run} was told of, and never its end: ${kinds.join()}`)
    }
    // A job that is removed from BullMQ and added anew under its id is another one with the same first run.
    else if (kinds.slice(end + 1).some((kind) => kind !== 'enqueued')) findings.push(`something is told of run ${run} behind its end: ${kinds.join()}`)
    const started = kinds.indexOf('started')
    const inSandbox = kinds.findIndex((kind) => ['step.finished', 'moved', 'checkpointed', 'promoted'].includes(kind))
    if (started !== -1 && inSandbox !== -1 && inSandbox < started) findings.push(`what happened in a sandbox of run ${run} is told before it was there: ${kinds.join()}`)
    return findings
  })
}

/** Of the jobs of one key none changes what others see while another one is at it, and none that was superseded has promoted. */
async function keysGuard({ world, told }: Parameters<Rule>[0]): Promise<string[]> {
  if (world.phases === undefined || world.losesWrites) return []
  const findings: string[] = []
  const byRepository = new Map<string, Write[]>()
  for (const write of world.phases.writes) if (guarded.test(write.repository)) byRepository.set(write.repository, [...(byRepository.get(write.repository) ?? []), write])
  const superseded = new Set(told.flatMap(({ data }) => ('error' in data && data.error?.code === 'SWY_SUPERSEDED' ? [data.jobId] : [])))
  for (const [repository, calls] of byRepository) {
    const writes = calls.filter(({ what }) => what !== 'clone')
    const turns = writes.map(({ branch }) => branch).filter((branch, index, all) => branch !== all[index - 1])
    for (const [index, branch] of turns.entries()) if (turns.indexOf(branch) < index) findings.push(`${repository}: ${branch} was written to again after ${turns[index - 1] ?? ''}, which has the same key`)
    for (const write of writes) {
      const before = calls.slice(0, calls.indexOf(write))
      const since = before.slice(before.findLastIndex(({ what, runId }) => what === 'clone' && runId === write.runId) + 1)
      // One that was superseded fetches until its consumer hears of it.
      const other = since.find(({ what, runId }) => what === 'clone' && runId !== write.runId && !superseded.has(runId.replace(/^claim:/, '')))
      if (other !== undefined) findings.push(`${repository}: ${write.what} of ${write.branch}, though ${other.runId}, which has the same key, had begun by then`)
    }
  }
  const promoted = new Set(world.phases.writes.filter(({ what }) => what === 'promote').map(({ branch }) => branch))
  for (const { data, id } of told) if ('error' in data && data.error?.code === 'SWY_SUPERSEDED' && 'branch' in data && data.branch !== null && promoted.has(data.branch)) findings.push(`run ${id} was superseded, and its work was promoted`)
  return findings
}

const ended = ['succeeded', 'failed', 'cancelled'] as const

async function listsAgree({ world }: Parameters<Rule>[0]): Promise<string[]> {
  return (await Promise.all(world.sides.map((side) => listsOfSideAgree(side)))).flat()
}

async function listsOfSideAgree(side: Side): Promise<string[]> {
  const { name, bull, queue } = side
  const findings: string[] = []
  const all = await listed(side, undefined)
  const byState = new Map((await Promise.all(ended.map(async (state) => await listed(side, state)))).flat().map((status) => [status.jobId, status]))
  const children = new Set((await bull.getWaitingChildren()).map(({ id }) => id))
  for (const { jobId, state } of all) {
    if (children.has(jobId)) continue
    if (!ended.some((each) => each === state)) findings.push(`${name} lists ${jobId} as ${state}, and nothing waits or runs`)
    else if (byState.get(jobId)?.state !== state) findings.push(`${name} lists ${jobId} as ${state}, and by that state it lists ${byState.get(jobId)?.state ?? 'it not'}`)
  }
  for (const jobId of byState.keys()) if (!all.some((status) => status.jobId === jobId)) findings.push(`${name} lists ${jobId} by its state, and not among all`)
  const held = (await bull.getJobs(['completed', 'failed'])).flatMap(({ id }) => id ?? [])
  const ids = new Set(all.map(({ jobId }) => jobId))
  for (const id of held) if (!ids.has(id)) findings.push(`${name} does not list ${id}, which BullMQ holds as ended`)
  for (const { jobId, state, result } of all) {
    const status = await queue.job(jobId).status().catch(String)
    if (typeof status === 'string' || status.state !== state) findings.push(`${name} lists ${jobId} as ${state}, and its status is ${JSON.stringify(status)}`)
    if (result !== null && result.status !== state) findings.push(`${name} lists ${jobId} as ${state} with the result ${result.status}`)
  }
  return findings
}

async function listed({ queue }: Side, state: JobStatus['state'] | undefined): Promise<JobStatus[]> {
  const found: JobStatus[] = []
  for (let cursor: string | undefined; ; ) {
    const page = await queue.list({ limit: 7, ...(state === undefined ? {} : { state }), ...(cursor === undefined ? {} : { cursor }) })
    found.push(...page)
    if (page.cursor === null) return found
    cursor = page.cursor
  }
}

/** What waits, runs or is unread by the metrics. */
async function figuresAreZero({ world }: Parameters<Rule>[0]): Promise<string[]> {
  const findings: string[] = []
  for (const { name, queue, keys } of world.sides) {
    const figures = await deploymentFigures(world.client, { prefix: keys.prefix, queue: name })
    const zero = (metric: Parameters<typeof figures.get>[0], but: (labels: readonly string[]) => boolean = () => false) => {
      for (const [labels, value] of figures.get(metric) ?? []) if (value !== 0 && !but(labels)) findings.push(`${metric} ${labels.join()} is ${value}, and nothing waits or runs`)
    }
    zero('switchyard.queue.jobs', ([, state = '']) => ['completed', 'failed', 'succeeded', 'ended', 'waiting-children'].includes(state))
    zero('switchyard.queue.wanted')
    for (const metric of ['switchyard.provider.running', 'switchyard.provider.waiting', 'switchyard.provider.foreign', 'switchyard.sandbox.leaked', 'switchyard.events.unread', 'switchyard.events.pending', 'switchyard.events.dead'] as const) zero(metric)
    const { counts, running, waiting, tenants } = await queue.fleet()
    if (counts.inHand + counts.waiting + counts.delayed > 0 || running.length > 0) findings.push(`the fleet of ${name} shows jobs, and nothing waits or runs: ${JSON.stringify({ counts, running, waiting })}`)
    const busy = tenants.filter((tenant) => Object.entries(tenant).some(([field, value]) => ['running', 'waiting', 'held', 'inHand'].includes(field) && typeof value === 'number' && value > 0))
    if (busy.length > 0) findings.push(`the fleet of ${name} shows tenants with jobs: ${JSON.stringify(busy)}`)
  }
  return findings
}

/** What tenants' accounts say that sandboxes have cost is what the ends of their jobs say. */
async function costsAgree({ world, told }: Parameters<Rule>[0]): Promise<string[]> {
  if (!world.settings.budgets || world.losesWrites) return []
  const byTenant = new Map<string | null, number>()
  for (const event of told) {
    if (!('usage' in event.data)) continue
    const { tenant, usage } = event.data
    byTenant.set(tenant, (byTenant.get(tenant) ?? 0) + (usage.cost?.micros ?? 0))
  }
  const accounts = await world.main.queue.costs()
  const findings = accounts.flatMap(({ tenant, micros }) => (micros === (byTenant.get(tenant) ?? 0) ? [] : [`tenant ${tenant ?? ''} has spent ${micros} by its account, and ${byTenant.get(tenant) ?? 0} by the ends of its jobs`]))
  for (const [tenant, micros] of byTenant) if (micros > 0 && !accounts.some((account) => account.tenant === tenant)) findings.push(`tenant ${tenant ?? ''} has no account, and ${micros} by the ends of its jobs`)
  for (const key of await world.client.keys(`${world.main.keys.costs()}:day:*`)) for (const [field, value] of Object.entries(await world.client.hgetall(key))) if (field.startsWith('r:')) findings.push(`${key} still has ${value} reserved for ${field}`)
  return findings
}

/** Never more sandboxes than there may be, whoever dies or is slow; where Redis forgets places that it gave, there may be. */
async function noLimitWasPassed({ world }: Parameters<Rule>[0]): Promise<string[]> {
  if (world.losesWrites) return []
  return world.providers.filter(({ most }) => most > sandboxesAtMost).map(({ name, most }) => `provider ${name} had ${most} sandboxes at one time, and ${sandboxesAtMost} is its limit`)
}
