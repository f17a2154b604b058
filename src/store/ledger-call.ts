import type { Redis } from 'ioredis'
import { inboxTtlMs } from './inbox.js'
import type { Keys } from './keys.js'
import { runScript, type ScriptName } from './scripts.js'

/** Runs a script of the ledger or of the index of waiting jobs: all of them begin with the same keys and arguments; see lua/ledger.lua. */
export async function runLedgerScript(
  redis: Redis,
  keys: Keys,
  name: ScriptName,
  args: readonly (string | number)[],
  moreKeys: readonly string[] = [],
): Promise<unknown> {
  return await runScript(redis, name, [keys.ledger(), keys.ready(), keys.idle(), ...moreKeys], [keys.inbox(''), inboxTtlMs, ...args])
}

/** As `runLedgerScript`, for a script that only looks: it writes nothing, so a Redis answers it that takes no writes. */
export async function lookInLedger(redis: Redis, keys: Keys, name: 'ledger-look', args: readonly string[]): Promise<unknown> {
  return await runScript(redis, name, [keys.ledger(), keys.ready(), keys.idle()], ['', '', ...args])
}
