import { readFileSync, readdirSync } from 'node:fs'
import type { Redis } from 'ioredis'
import { rememberScript } from './script-source.js'

/**
 * The Lua scripts of ./lua, loaded once. First lines `-- include NAME` put other files before a script: Redis has no
 * modules, and the ledger's scripts share one body of rules. What stands behind a line `-- lazily TABLE` is declared
 * when it is needed: see `lazily` in ./lua/ledger.lua.
 */
const folder = new URL('./lua/', import.meta.url)

/** A script's name is its file's, without `.lua`. */
export type ScriptName =
  | 'run-acquire'
  | 'run-save'
  | 'run-finish'
  | 'run-end'
  | 'run-cancel'
  | 'run-continue'
  | 'budget-cover'
  | 'budget-set'
  | 'budget-watch'
  | 'budget-park'
  | 'ledger-reserve'
  | 'ledger-bind'
  | 'ledger-release'
  | 'ledger-renew'
  | 'ledger-loads'
  | 'ledger-look'
  | 'ledger-report'
  | 'ledger-operate'
  | 'tenant-operate'
  | 'ready-add'
  | 'ready-dispatch'
  | 'ready-close'
  | 'ready-keep'
  | 'ready-front'
  | 'ready-cancelled'
  | 'ready-reconcile'
  | 'ready-tidy'
  | 'sweep-yield'
  | 'queue-lift'
  | 'queue-pause'
  | 'ready-accrue'
  | 'ready-standing'
  | 'ready-again'
  | 'ready-refuse'
  | 'ready-enter'
  | 'key-taken'
  | 'ready-hold'
  | 'roster-announce'
  | 'ledger-bound'
  | 'ledger-entrust'
  | 'ledger-unbind'
  | 'reap-claim'
  | 'reap-finish'
  | 'inbox-wake'
  | 'claim'
  | 'claim-undo'
  | 'jobs-match'
  | 'jobs-read'
  | 'jobs-glance'
  | 'event-enqueued'
  | 'event-open'
  | 'event-take'
  | 'event-settle'
  | 'event-keep'
  | 'event-redeliver'
  | 'event-replay'
  | 'event-remove'
  | 'waits-add'
  | 'locks-mend'
  | 'waits-due'
  | 'waits-settle'
  | 'schedule-put'
  | 'schedule-begin'
  | 'schedule-settle'
  | 'schedule-pause'
  | 'schedule-remove'
  | 'schedule-overdue'
  | 'api-key-put'
  | 'api-key-revoke'
  | 'api-key-used'
  | 'answer-begin'
  | 'answer-settle'

const sources = new Map<string, string>()
for (const file of readdirSync(folder)) {
  if (file.endsWith('.lua')) sources.set(file.slice(0, -'.lua'.length), readFileSync(new URL(file, folder), 'utf8'))
}

function sourceOf(name: string): string {
  const source = sources.get(name)
  if (source === undefined) throw new Error(`the Lua script ${name}.lua is missing beside the store; the build did not copy it`)
  const included = /^(?:-- include \S+\n)*/.exec(source)?.[0].matchAll(/^-- include (\S+)$/gm) ?? []
  return [...[...included].map(([, file = '']) => sourceOf(file)), lazily(source)].join('\n')
}

function lazily(source: string): string {
  const [first = '', ...parts] = source.split(/^-- lazily (\w+).*\n/m)
  let text = first
  for (let part = 0; part < parts.length; part += 2) text += `lazily(${parts[part]}, function()\n${parts[part + 1]}end)\n`
  return text
}

/** A quarter of the text, which each connection hashes and sends. The lines stay where they are, for what Redis says of an error. */
function withoutComments(source: string): string {
  return source.replaceAll(/^[ \t]*--.*$/gm, '')
}

type Command = (this: object, ...args: (string | number | Buffer)[]) => Promise<unknown>
const commandName = (name: ScriptName) => `switchyard:${name}`
const prepared = new WeakSet<Redis>()

/** The scripts as they are sent, put together when the first connection of a kind is made: there are hundreds of kilobytes of them. */
const texts = new Map<boolean, ReadonlyMap<string, string>>()

function textsFor(cluster: boolean): ReadonlyMap<string, string> {
  const known = texts.get(cluster)
  if (known !== undefined) return known
  const made = new Map([...sources.keys()].map((name) => [name, withoutComments((cluster ? forgetGuard : '') + sourceOf(name))]))
  for (const text of made.values()) rememberScript(text)
  texts.set(cluster, made)
  return made
}

/** Defines the scripts on a connection; a pipeline knows only those that were defined before it was made. */
export function prepareScripts(redis: Redis): void {
  if (prepared.has(redis)) return
  for (const [name, lua] of textsFor(isCluster(redis))) redis.defineCommand(commandName(name as ScriptName), { lua })
  prepared.add(redis)
}

/** Runs a script: one round trip, by its digest (ioredis sends the text when Redis does not know it yet). */
export async function runScript(
  redis: Redis,
  name: ScriptName,
  keys: readonly string[],
  args: readonly (string | number | Buffer)[],
): Promise<unknown> {
  prepareScripts(redis)
  const all = guarded(redis, keys)
  for (let tries = 1; ; tries++) {
    try {
      return await commandOf(redis, name).call(redis, all.length, ...all, ...args)
    } catch (error) {
      // ioredis tries once more, by the digest where another call has just sent the text, which may be lost again by then. It has not run.
      if (tries === mostTries || !isScriptLost(error)) throw error
    }
  }
}

const mostTries = 5

/** Redis has lost a script that it had (SCRIPT FLUSH), and has run nothing. */
export function isScriptLost(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}

/**
 * Has the scripts of a transaction sent as text the next time. ioredis sends a script by its digest once it has sent the text, and hears from each call that Redis has lost it
 * since, but from those of a transaction, whose answers come together: it would go on for ever.
 */
export function sendTextsAnew(transaction: object): void {
  // Its types keep to themselves what it has sent.
  const { _queue: sent } = transaction as { readonly _queue?: readonly { reject: (error: Error) => void }[] }
  for (const command of sent ?? []) command.reject(new Error('NOSCRIPT'))
}

/** Queues a script on a pipeline (ioredis's or BullMQ's) of a prepared connection; its answer comes with the pipeline's. */
export function queueScript(
  pipeline: object,
  name: ScriptName,
  keys: readonly string[],
  args: readonly (string | number | Buffer)[],
): void {
  const all = guarded(pipeline, keys)
  void commandOf(pipeline, name).call(pipeline, all.length, ...all, ...args)
}

/**
 * While a slot is moved from one node of a Cluster to another, part of its keys is here and part there. A script that names only what is here runs, and
 * fails in its middle, or sees nothing, where it reaches for a key that it found out on the way. One that names a key which never exists
 * is put off as a whole until the slot has moved (TRYAGAIN). So each names one more there, which it then forgets.
 */
const forgetGuard = 'KEYS[#KEYS] = nil '

function guarded(target: object, keys: readonly string[]): readonly string[] {
  const tag = isCluster(target) ? /^[^{]*\{[^}]+\}/.exec(keys[0] ?? '')?.[0] : undefined
  return tag === undefined ? keys : [...keys, `${tag}::never`]
}

function isCluster(target: object): boolean {
  return 'isCluster' in target && target.isCluster === true
}

function commandOf(target: object, name: ScriptName): Command {
  // ioredis adds defined commands as methods at run time; its types can't know them.
  const command = (target as Record<string, unknown>)[commandName(name)]
  if (typeof command !== 'function') throw new Error(`the script ${name} is not defined on this connection`)
  return command as Command
}
