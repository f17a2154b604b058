import { pino } from 'pino'
import { artifactsConfigSchema, createArtifactStore } from '../../src/artifacts/index.js'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { CodeStorageHost } from '../../src/git/index.js'
import { InfrastructureError } from '../../src/job/errors.js'
import { startMonitorServer } from '../../src/monitor/index.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import { endingProvider } from './ending-provider.js'
import { hostWithForge, verbOf, type ConsumerProcessOptions } from './deployment.js'

// A consumer in a process of its own, for tests that kill, stop and freeze it. It says "started" to its parent once it takes jobs,
// its log, and each call that it makes to a provider or the git host; SIGTERM stops it.
const told = JSON.parse(process.env['CONSUMER'] ?? '') as ConsumerProcessOptions

const counts = new Map<string, number>()
function count(call: string): number {
  const nth = (counts.get(call) ?? 0) + 1
  counts.set(call, nth)
  process.send?.({ call })
  return nth
}

async function freeze(call: string, nth: number, after: boolean): Promise<void> {
  if (told.freezeIn?.call !== call || told.freezeIn.nth !== nth || (told.freezeIn.after ?? false) !== after) return
  // Said before the end of the world as this process knows it.
  await new Promise((resolve) => process.send?.({ freezing: call }, resolve))
  process.kill(process.pid, 'SIGSTOP')
  if (told.freezeIn.fails === true) throw new InfrastructureError({ kind: 'transient', source: 'test', message: 'try again' })
}

/** Tells of each call, and freezes in one of them. */
function watched<Target extends object>(target: Target): Target {
  return new Proxy(target, {
    get(_target, key) {
      const value: unknown = Reflect.get(target, key, target)
      // Iterables and what gives no promise stay as they are.
      if (typeof value !== 'function' || key === 'list' || key === 'refusal') return typeof value === 'function' ? (value.bind(target) as unknown) : value
      return async (...args: unknown[]): Promise<unknown> => {
        const call = key === 'exec' ? verbOf(args[1] as { script: string }) : String(key)
        const nth = count(call)
        await freeze(call, nth, false)
        const answer: unknown = await Reflect.apply(value, target, args)
        await freeze(call, nth, true)
        return answer
      }
    },
  })
}

const consumer = new Consumer({
  deployment: 'test',
  redis: told.redis,
  git: watched(told.forge === undefined ? new CodeStorageHost(told.git) : hostWithForge(told.git, told.forge)),
  providers: told.limits.map((sandboxes, index) => {
    const local = new LocalProvider({ name: `local-${'abcdef'[index]}`, stateDir: told.stateDir, loopbackPorts: [...told.loopbackPorts] })
    return { provider: watched(told.endFile === undefined ? local : endingProvider(local, told.endFile)), limit: { sandboxes }, credentials: told.credentials }
  }),
  artifacts: told.artifacts === undefined ? undefined : createArtifactStore(artifactsConfigSchema.parse(told.artifacts), { environment: told.environment ?? {} }),
  secrets: secretsFromEnvironment([]),
  log: pino({ level: 'info' }, { write: (line: string) => void process.send?.({ log: line }) }),
  settings: told.settings,
})
const probes = told.probes !== true ? null : await startMonitorServer({ host: '127.0.0.1', port: 0, stuck: () => consumer.stuckLoops().map(({ loop }) => loop), unready: async () => (await consumer.readiness()).problems })
if (probes !== null) process.send?.({ probes: probes.url })
process.once('SIGTERM', () => {
  void consumer.stop().then(async () => {
    await probes?.close()
    process.disconnect()
  })
})
await consumer.start()
process.send?.('started')
