// What a job costs at each provider beside the provider's own SDK used by hand as its guides do: create, clone, run, push, kill.
//
// Both sides run in this process, in turn, against the same protocol server (a process of its own), the same Code Storage and
// the same repository. Calls are those of the `Provider` interface, and the requests that the server counted.
// ROUNDS=n changes the number of pairs.
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { startProtocolServers } from '../src/cli/demo/protocol-servers.js'
import { createProviders } from '../src/config/providers.js'
import { parseConfig } from '../src/config/load.js'
import type { Provider } from '../src/providers/provider.js'
import { startDeployment, type Deployment } from '../test/e2e/deployment.js'
import { byHand, type HandTools } from './by-hand.js'
import { median, report } from './report.js'

const rounds = Number(process.env['ROUNDS'] ?? 9)
const repository = 'bench/providers'

/** Milliseconds from the beginning (the enqueue, or the SDK's create). */
export interface Times {
  readonly repositoryReadyMs: number
  readonly firstCommandMs: number
  readonly endMs: number
}

const deployment = await startDeployment({ limits: [] })
try {
  const files = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`src/${index % 20}/file-${index}.ts`, `export const value${index} = ${index}\n`.repeat(20)]))
  await deployment.seed(repository, files)
  const figures: Record<string, number> = {}
  for (const name of ['e2b', 'modal', 'daytona'] as const) Object.assign(figures, await measure(name, deployment))
  await report('providers', figures)
} finally {
  await deployment.close()
}

async function measure(name: keyof typeof byHand, deployed: Deployment): Promise<Record<string, number>> {
  const checkout = fileURLToPath(new URL('../', import.meta.url))
  const stage = await startProtocolServers({ kind: 'protocol servers', names: [name], missing: [] }, { checkout, folder: deployed.dir, signal: new AbortController().signal })
  const [configured] = await createProviders(parseConfig({ providers: stage.entries }).providers, { environment: stage.environment })
  if (configured === undefined) throw new Error('no provider')
  const counted = countCalls(configured.provider)
  const consumer = await deployed.startConsumer({ providers: [{ ...configured, provider: counted.provider }] })
  const tools = await byHand[name](stage.environment)
  try {
    const ours: Times[] = []
    const hand: Times[] = []
    const wire = { ours: 0, hand: 0 }
    for (let round = 0; round <= rounds; round++) {
      // The first pair warms both up: modules, connections, what the adapters look up once.
      const sides = [
        async () => {
          const before = await requests(stage.environment)
          const times = await runJob(deployed, counted.clonedAtMs)
          if (round === 0) {
            counted.reset()
            return
          }
          ours.push(times)
          wire.ours += (await requests(stage.environment)) - before
        },
        async () => {
          const before = await requests(stage.environment)
          const times = await runByHand(deployed, tools)
          if (round === 0) return
          hand.push(times)
          wire.hand += (await requests(stage.environment)) - before
        },
      ]
      for (const side of round % 2 === 0 ? sides : sides.reverse()) await side()
    }
    const ratio = (key: keyof Times) => Number(median(ours.map((times, index) => times[key] / (hand[index]?.[key] ?? Number.NaN))).toFixed(2))
    const ms = (side: readonly Times[], key: keyof Times) => Math.round(median(side.map((times) => times[key])))
    return Object.fromEntries(
      Object.entries({
        callsPerJob: Object.values(counted.calls()).reduce((sum, count) => sum + count, 0) / rounds,
        execsPerJob: (counted.calls()['exec'] ?? 0) / rounds,
        requestsPerJob: wire.ours / rounds,
        requestsByHand: wire.hand / rounds,
        repositoryReadyMs: ms(ours, 'repositoryReadyMs'),
        repositoryReadyByHandMs: ms(hand, 'repositoryReadyMs'),
        repositoryReadyRatio: ratio('repositoryReadyMs'),
        firstCommandMs: ms(ours, 'firstCommandMs'),
        firstCommandByHandMs: ms(hand, 'firstCommandMs'),
        firstCommandRatio: ratio('firstCommandMs'),
        endMs: ms(ours, 'endMs'),
        endByHandMs: ms(hand, 'endMs'),
        endRatio: ratio('endMs'),
      }).map(([key, value]) => [`${name}.${key}`, Number(value.toFixed(2))]),
    )
  } finally {
    await consumer.stop()
    await tools.close()
    await configured.provider.close()
    await stage.close()
  }
}

async function runJob({ queue }: Pick<Deployment, 'queue'>, clonedAtMs: () => number): Promise<Times> {
  const start = Date.now()
  const job = await queue.enqueue({ repository, steps: ['date +%s%3N; echo work > work.txt'], push: { message: 'Work' } })
  const result = await job.result({ timeoutMs: 120_000 })
  if (result.status !== 'succeeded') throw new Error(`the job ${result.status}: ${result.error?.message ?? ''}`)
  return { repositoryReadyMs: clonedAtMs() - start, firstCommandMs: Number(result.steps[0]?.stdoutTail) - start, endMs: Date.now() - start }
}

async function runByHand({ host }: Pick<Deployment, 'host'>, tools: HandTools): Promise<Times> {
  const start = Date.now()
  const branch = `by-hand-${start}`
  const read = await host.readAccess(repository, { ephemeral: false })
  const write = await host.writeAccess(repository, { branch })
  const withToken = ({ url, username, token }: typeof read) => Object.assign(new URL(url), { username, password: token }).href
  const run = await tools.create()
  await run(`git clone -q --depth 1 ${withToken(read)} repository`)
  const repositoryReadyMs = Date.now() - start
  const printed = await run('cd repository && date +%s%3N && echo work > work.txt')
  await run(`cd repository && git add -A && git -c user.name=Bench -c user.email=bench@example.invalid commit -qm Work && git push -q ${withToken(write)} HEAD:refs/heads/${branch}`)
  await tools.kill()
  return { repositoryReadyMs, firstCommandMs: Number(printed) - start, endMs: Date.now() - start }
}

/** How many requests the server has had; the sandboxes' git is not among them. */
async function requests(environment: Readonly<Record<string, string | undefined>>): Promise<number> {
  const response = await fetch(`${environment['ADMIN_URL'] ?? ''}/state`)
  const { calls } = z.object({ calls: z.record(z.string(), z.number()) }).parse(await response.json())
  return Object.values(calls).reduce((sum, count) => sum + count, 0)
}

/** The provider, with its calls counted and the end of the clone noted. */
function countCalls(provider: Provider) {
  let counts: Record<string, number> = {}
  let clonedAtMs = Number.NaN
  // Not `list`: that is the reaper's, whatever jobs there are.
  const names = ['create', 'get', 'exec', 'kill', 'extend']
  const counting = new Proxy(provider, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target)
      if (typeof value !== 'function') return value
      const method = value.bind(target) as (...args: readonly unknown[]) => unknown
      if (typeof key !== 'string' || !names.includes(key)) return method
      return (...args: readonly unknown[]) => {
        counts[key] = (counts[key] ?? 0) + 1
        const outcome = method(...args)
        const isClone = key === 'exec' && (args[1] as { script: string }).script.includes(`'clone'`)
        return isClone ? (outcome as Promise<unknown>).finally(() => (clonedAtMs = Date.now())) : outcome
      }
    },
  })
  return {
    provider: counting,
    calls: () => counts,
    clonedAtMs: () => clonedAtMs,
    reset: () => {
      counts = {}
    },
  }
}
