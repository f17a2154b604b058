import type { Metrics } from './metrics.js'

/** What is looked at of an ioredis command. */
interface SentCommand {
  readonly name: string
  readonly args: readonly unknown[]
  resolve: (answer: unknown) => void
  reject: (error: Error) => void
  /** Ours: it is measured already. */
  measured?: true
}

/** What is looked at of a connection of ioredis: the scripts that were defined on it, and how it sends. */
interface MeasuredConnection {
  readonly scriptsSet?: Readonly<Record<string, { readonly sha: string }>>
  sendCommand(command: SentCommand, ...more: unknown[]): unknown
}

/** Commands with labels of their own at most; there are some 150, and a hundred scripts. */
const mostNames = 300

/** Measures every command of a connection, those of pipelines too: from sending to the answer. A script goes by its name. */
export function measureRedis(connection: object, metrics: Metrics): void {
  if (!metrics.on) return
  const redis = connection as MeasuredConnection
  const send = redis.sendCommand.bind(redis)
  const scripts = new Map<string, string>()
  const names = new Set<string>()
  const nameOf = ({ name, args }: SentCommand): string => {
    if (name !== 'evalsha' && name !== 'eval') return name
    const sha = String(args[0])
    // Scripts are defined as they are used first.
    if (!scripts.has(sha)) for (const [script, known] of Object.entries(redis.scriptsSet ?? {})) scripts.set(known.sha, `script:${scriptName(script)}`)
    return scripts.get(sha) ?? 'script:unknown'
  }
  redis.sendCommand = (command, ...more) => {
    // What waits for the connection is sent once more when that is there.
    if (command.measured === true) return send(command, ...more)
    command.measured = true
    const began = performance.now()
    const called = nameOf(command)
    const label = names.has(called) || names.size < mostNames ? called : 'other'
    names.add(label)
    const { resolve, reject } = command
    command.resolve = (answer) => {
      metrics.observe('switchyard.redis.command.duration', [label], (performance.now() - began) / 1000)
      resolve(answer)
    }
    command.reject = (error) => {
      // The digest of a script that this Redis has not seen: it is sent again.
      if (!error.message.startsWith('NOSCRIPT')) metrics.add('switchyard.redis.errors', [label])
      reject(error)
    }
    return send(command, ...more)
  }
}

/** `switchyard:run-save` and BullMQ's `moveToActive-11:6.7.0` without what a release changes. */
function scriptName(defined: string): string {
  return defined.startsWith('switchyard:') ? defined.slice('switchyard:'.length) : `bullmq-${defined.replace(/[:\-]\d.*$/, '')}`
}
