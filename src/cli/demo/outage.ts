import { setTimeout as sleep } from 'node:timers/promises'
import { createProviders, type ConfiguredProvider } from '../../config/providers.js'
import type { Config } from '../../config/schema.js'
import { InfrastructureError } from '../../job/errors.js'
import { harmlessText } from '../../job/harmless-text.js'
import type { LogLine } from '../../job/log.js'
import type { JobHandle } from '../../producers/index.js'
import { sandboxTags, type Provider } from '../../providers/provider.js'
import { outputOf, partNumbers, partsBeforeKill } from './jobs.js'
import type { Progress } from './progress.js'
import type { Stage } from './stage.js'

/** What befalls the failover job, behind the consumer's back: its sandbox dies, and some providers have no place left. */

const pollMs = 200
const callTimeoutMs = 30_000
/** More than any provider of a demo has room for. */
const mostOfAnother = 20

export interface Outage {
  readonly stage: Stage
  readonly config: Config
  readonly progress: Progress
  /** Jobs that need the providers which get full; nothing happens before they have ended. */
  readonly others: Promise<unknown>
  readonly until: AbortSignal
}

/** Waits until some of the second step's work is in a checkpoint, then strikes. */
export async function strikeInTheMiddle(handle: JobHandle, { stage, config, progress, others, until }: Outage): Promise<void> {
  let before: string | null | undefined
  while (!until.aborted) {
    const { step, checkpointSha, provider, sandboxId } = await handle.status()
    if (step?.startsWith('2/') === true && sandboxId !== null && provider !== null) {
      // The checkpoint that the first step left; the next one holds work of the second.
      before ??= checkpointSha
      const made = partNumbers(outputOf(await allLines(handle), 'work')).length
      if (made >= partsBeforeKill && checkpointSha !== before) {
        await others
        for (const name of stage.full) {
          await withProvider(stage, config, name, (own) => fillUp(own))
          progress.say(`failover  ${name} was filled up by another customer`)
        }
        await killSandboxAt(stage, config, provider, sandboxId)
        progress.say(`failover  its sandbox ${sandboxId} at ${provider} was killed from outside after ${made} parts`)
        return
      }
    }
    await sleep(pollMs, undefined, { signal: until }).catch(() => undefined)
  }
}

/** Has a sandbox die behind the consumer's back. */
export async function killSandboxAt(stage: Stage, config: Config, provider: string, sandboxId: string): Promise<void> {
  await (stage.killSandbox?.(provider, sandboxId) ?? withProvider(stage, config, provider, (own) => own.kill(sandboxId, { timeoutMs: callTimeoutMs })))
}

/** What shows that the job went on and did not start again. */
export function failoverReport(lines: readonly LogLine[]): string {
  const times = outputOf(lines, 'prepare').trimEnd().split('\n').length
  const told = lines.filter(({ stream }) => stream === 'system').map(({ text }) => text).join('')
  return [
    '            what its log says of the way there:',
    barred(told, '            | '),
    `            its first step ran ${times === 1 ? 'once' : `${times} times`}; what the third one found in the work tree:`,
    barred(outputOf(lines, 'report'), '            | '),
  ].join('\n')
}

/** What a job printed, so that none of its lines looks like one of ours: after whatever ends a line anywhere the bar comes again. */
export function barred(text: string, bar: string): string {
  return `${bar}${harmlessText(text).trimEnd().replaceAll('\n', `\n${bar}`)}`
}

export async function allLines(handle: JobHandle): Promise<LogLine[]> {
  const lines: LogLine[] = []
  for await (const line of handle.logs({ follow: false })) lines.push(line)
  return lines
}

/** Another customer takes what the provider has, until it says itself that it has no more. */
async function fillUp(provider: Provider): Promise<void> {
  for (let taken = 1; taken <= mostOfAnother; taken++) {
    try {
      await provider.create(
        {
          name: `another-customer-${taken}`,
          tags: sandboxTags({ deployment: 'another-customer', runId: `job-${taken}`, attempt: 1 }),
          image: undefined,
          resources: {},
          lifetimeMs: 600_000,
          network: 'open',
          gitHosts: [],
        },
        { timeoutMs: callTimeoutMs },
      )
    } catch (error) {
      if (error instanceof InfrastructureError && error.kind === 'capacity') return
      throw error
    }
  }
  throw new Error(`${provider.name} has room for more than ${mostOfAnother} sandboxes`)
}

/** As another client of the same account. */
async function withProvider(stage: Stage, config: Config, name: string, work: (provider: Provider) => Promise<void>): Promise<void> {
  const configured: ConfiguredProvider[] = await createProviders(
    config.providers.filter((entry) => entry.name === name),
    { environment: stage.environment, ...(stage.directory === undefined ? {} : { directory: stage.directory }) },
  )
  try {
    for (const { provider } of configured) await work(provider)
  } finally {
    await Promise.all(configured.map(({ provider }) => provider.close()))
  }
}
