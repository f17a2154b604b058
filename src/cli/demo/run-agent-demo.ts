import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseConfig } from '../../config/load.js'
import { InvalidInputError, SwitchyardError } from '../../job/errors.js'
import { harmlessLine } from '../../job/harmless-text.js'
import type { JobResult } from '../../job/result.js'
import type { JobHandle } from '../../producers/index.js'
import { closeInTurn } from '../close-in-turn.js'
import { createLogger } from '../logger.js'
import { startLocalStack } from '../local-stack.js'
import { openQueue } from '../open-queue.js'
import { resultReport } from '../report.js'
import { seedRepository } from '../seed-repository.js'
import { startConsumer } from '../start-consumer.js'
import { agentComplaints, agentJob, brokenTurn, keyName, turnsReport, turnsSchema, type Turns } from './agent-job.js'
import { missingOfCheckout, startCheckoutServer } from './checkout-server.js'
import { allLines, barred, killSandboxAt } from './outage.js'
import { startProgress, type Progress } from './progress.js'
import { agentsCache, installAgent, realAgents } from './real-agents.js'
import { localStage } from './stage.js'

export interface AgentDemoOptions {
  /** The checkout: its history becomes the repository, its test/servers/model the agent's model. */
  readonly source: string
  /** Where progress and reports go. */
  readonly output: NodeJS.WriteStream
  /** Ends the demo early; everything is torn down all the same. */
  readonly signal: AbortSignal
}

export interface AgentDemoReport {
  readonly job: JobResult
  /** What the agent's model was asked, by turn. */
  readonly turns: Turns
  /** What did not come out as intended. */
  readonly complaints: readonly string[]
}

const pollMs = 200
const patienceMs = 300_000

/**
 * Runs a real agent as a job, kills its sandbox in the middle of a turn, and shows by what its model was asked that it went on in the
 * same conversation at another provider. It needs no key and no network but for the agent's installation.
 * @returns undefined when the agent can't be installed here, which was said.
 * @throws the signal's reason when it was stopped; InvalidInputError outside of a checkout; SwitchyardError when something could not be started.
 */
export async function runAgentDemo({ source, output, signal }: AgentDemoOptions): Promise<AgentDemoReport | undefined> {
  const progress = startProgress(output)
  const missing = missingOfCheckout(source, 'model')
  if (missing !== undefined) throw new InvalidInputError(`--agent: the agent’s model comes with a checkout of Switchyard and its dependencies, and ${missing} is not there; run script/demo in a checkout`)
  const { claude: agent } = realAgents
  if (agent === undefined) throw new Error('no agent is known')
  const say = (line: string) => progress.say(line)
  const installed = await installAgent(agent, { cache: agentsCache(process.env), signal, say }).catch((error: unknown) => {
    if (!(error instanceof SwitchyardError)) throw error
    progress.say(`Skipped: ${error.message}. The demo without --agent needs none.`)
    return undefined
  })
  if (installed === undefined) return undefined

  const folder = await mkdtemp(join(tmpdir(), 'switchyard-demo-'))
  const closers: (() => Promise<void>)[] = [() => rm(folder, { recursive: true, force: true, maxRetries: 5 })]
  try {
    const key = `sk-demo-${randomBytes(8).toString('hex')}`
    const model = await startCheckoutServer('model', { checkout: source, signal, args: ['--api-key', key] })
    closers.push(() => model.close())
    const { ANTHROPIC_BASE_URL: modelUrl = '', ADMIN_URL: adminUrl = '' } = model.variables
    const stage = localStage(folder, { readOnlyPaths: [installed.folder], loopbackPorts: [Number(new URL(modelUrl).port)] })
    const stack = await startLocalStack({ folder, deployment: 'demo', providers: stage.entries, boardPort: 0 })
    closers.push(() => stack.close())
    signal.throwIfAborted()
    const config = parseConfig({ ...stack.config, consumer: { secrets: [keyName] } })
    const repository = 'demo/switchyard'
    await seedRepository({ git: stack.git, minter: stack.minter, storageUrl: stack.codeStorage.url }, repository, source)
    progress.say(`${agent.says} ${agent.version}, with a model of this checkout: no key, no network. Repository ${repository}; ${stage.says}`)
    const consumer = await startConsumer(config, { directory: folder, environment: { ...process.env, [keyName]: key }, log: createLogger('error') })
    closers.push(() => consumer.stop())
    const queue = openQueue(config)
    closers.push(() => queue.close())

    const session = randomUUID()
    const turns = async () => turnsSchema.parse(await (await fetch(`${adminUrl}/turns`, { signal })).json())
    const handle = await queue.enqueue(agentJob({ repository, first: stage.entries[0]?.name ?? '', session, bin: installed.bin, modelUrl }))
    progress.say(`agent     conversation ${session}: four tasks, and its sandbox dies in the third`)
    const ended = new AbortController()
    const until = AbortSignal.any([signal, ended.signal])
    const [job] = await Promise.all([
      handle.result({ timeoutMs: patienceMs, signal }).finally(() => ended.abort()),
      watch(handle, progress, until),
      strike(handle, { turns, progress, until, kill: (provider, sandboxId) => killSandboxAt(stage, config, provider, sandboxId) }),
    ])
    const asked = await turns()
    const complaints = agentComplaints(job, asked)
    const told = (await allLines(handle)).filter(({ stream }) => stream === 'system').map(({ text }) => text).join('')
    progress.say(`\nagent (${job.jobId}): ${complaints.length === 0 ? 'as intended' : `NOT as intended: ${harmlessLine(complaints.join('; '))}`}\n${resultReport(job)}`)
    progress.say(`What its log says of the way there:\n${barred(told, '  | ')}`)
    progress.say(`What its model was asked, both sandboxes together:\n${turnsReport(asked)}`)
    return { job, turns: asked, complaints }
  } finally {
    await closeInTurn(closers)
  }
}

async function watch(handle: JobHandle, progress: Progress, until: AbortSignal): Promise<void> {
  while (!until.aborted) {
    progress.show([{ name: 'agent', status: await handle.status() }], Date.now())
    await sleep(pollMs, undefined, { signal: until }).catch(() => undefined)
  }
  progress.show([{ name: 'agent', status: await handle.status() }], Date.now())
}

interface Strike {
  readonly turns: () => Promise<Turns>
  readonly progress: Progress
  readonly until: AbortSignal
  readonly kill: (provider: string, sandboxId: string) => Promise<void>
}

/** Waits until the turn is under way and a checkpoint was begun after that: the second one that is new since then. Then kills the sandbox. */
async function strike(handle: JobHandle, { turns, progress, until, kill }: Strike): Promise<void> {
  const checkpoints = new Set<string | null>()
  while (!until.aborted) {
    const begun = (await turns().catch(() => [])).some(({ turn }) => turn >= brokenTurn)
    const { checkpointSha, provider, sandboxId } = await handle.status()
    if (begun) checkpoints.add(checkpointSha)
    if (checkpoints.size >= 3 && provider !== null && sandboxId !== null) {
      await kill(provider, sandboxId)
      progress.say(`agent     its sandbox ${sandboxId} at ${provider} was killed from outside in the middle of its ${brokenTurn}rd turn`)
      return
    }
    await sleep(pollMs, undefined, { signal: until }).catch(() => undefined)
  }
}
