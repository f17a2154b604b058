import type { Command } from 'commander'
import type { ApiKeyInfo, ApiKeys, NewApiKey } from '../../http/index.js'
import { parseDuration } from '../../job/duration.js'
import { InvalidInputError } from '../../job/errors.js'
import { harmlessLine, harmlessValue } from '../../job/harmless-text.js'
import { operatorOf } from '../operator-flags.js'
import { table } from '../output.js'
import { print, printJson, say } from '../print.js'
import { collect, withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type CreateFlags = SharedFlags & { readonly name?: string; readonly scope?: string; readonly tenant?: string[]; readonly repository?: string[]; readonly secret?: string[]; readonly secrets: boolean; readonly expires?: string }

/** `switchyard keys`: the keys of the HTTP API. */
export function addKeysCommand(program: Command): void {
  const keys = program.command('keys').description('make, list and revoke the keys of the HTTP API')
  withConfigOption(withJsonOption(keys, 'the keys'))
  keys.addHelpText(
    'after',
    `
Examples:
  switchyard keys create --name ci --scope write --expires 90d
  switchyard keys create --name acme --scope write --tenant acme --repository 'acme/*' --secret ACME_KEY
  switchyard keys list
  switchyard keys revoke KEY_ID`,
  )

  keys
    .command('create')
    .description('make a key, and print it: it can’t be looked up later')
    .requiredOption('--name <text>', 'what it is for, such as ci')
    .option('--scope <read|write|admin>', 'look at jobs; enqueue, cancel and retry them too; or all there is', 'read')
    .option('--tenant <name>', 'whose jobs it may see and touch; may be given several times (default: everybody’s)', collect)
    .option('--repository <id>', 'what it may have jobs run on, such as acme/web, or acme/* for all that begin so; may be given several times (default: all)', collect)
    .option('--secret <NAME>', 'which secrets its jobs may use; may be given several times (default: all)', collect)
    .option('--no-secrets', 'its jobs may use none')
    .option('--expires <duration>', 'after how long it opens nothing any more, such as 90d (default: never)')
    .action(async (flags: CreateFlags, command: Command) => {
      const lifetimeMs = flags.expires === undefined ? undefined : parseDuration(flags.expires)
      if (flags.expires !== undefined && lifetimeMs === undefined) throw new InvalidInputError(`--expires: "${flags.expires}" is not a duration; write a number and a unit, such as "90d"`)
      if (!flags.secrets && flags.secret !== undefined) throw new InvalidInputError('--secret: is given together with --no-secrets; give one of the two')
      const shared = command.optsWithGlobals<SharedFlags>()
      await withKeys(shared, async (made) => {
        // The keys check it.
        const { key, info } = await made.create({ name: flags.name, scope: flags.scope, tenants: flags.tenant, repositories: flags.repository, secrets: flags.secrets ? flags.secret : [], lifetimeMs } as NewApiKey)
        if (shared.json === true) printJson({ key, ...info })
        else {
          print(key)
          say(`key ${info.id}: ${info.scope}${info.tenants === null ? '' : ` for ${info.tenants.map(harmlessLine).join(', ')}`}; keep it, it is not shown again`)
        }
      })
    })

  keys
    .command('list', { isDefault: true })
    .description('list the keys: who may do what, until when, and when each was used last')
    .action(async (_flags: object, command: Command) => {
      const shared = command.optsWithGlobals<SharedFlags>()
      await withKeys(shared, async (known) => {
        const found = await known.list()
        if (shared.json === true) printJson(found)
        else print(keyTable(found))
      })
    })

  keys
    .command('revoke <id>')
    .description('have a key open nothing from now on')
    .action(async (id: string, _flags: object, command: Command) => {
      const shared = command.optsWithGlobals<SharedFlags>()
      await withKeys(shared, async (known) => {
        const revoked = await known.revoke(id)
        if (shared.json === true) printJson({ revoked })
        else print(revoked ? 'the key is revoked' : 'the key was revoked before')
      })
    })
}

async function withKeys(flags: SharedFlags, work: (keys: ApiKeys) => Promise<void>): Promise<void> {
  const [{ withQueue }, { ApiKeys }] = await Promise.all([import('../open-queue.js'), import('../../http/api-keys.js')])
  await withQueue(flags, async (queue) => work(new ApiKeys(queue, operatorOf(flags))))
}

/** A line for each key. */
export function keyTable(found: readonly ApiKeyInfo[]): string {
  if (found.length === 0) return 'there are no keys'
  const at = (ms: number | null, otherwise: string) => (ms === null ? otherwise : `${new Date(ms).toISOString().slice(0, 19)}Z`)
  const rows = harmlessValue(found).map(({ id, name, scope, tenants, repositories, secrets, state, expiresAtMs, usedAtMs }) => [id, name, scope, tenants?.join(', ') ?? 'all', state, at(expiresAtMs, 'never'), at(usedAtMs, 'never'), repositories?.join(', ') ?? 'all', secrets === null ? 'all' : secrets.length === 0 ? 'none' : secrets.join(', ')])
  return table(['KEY', 'NAME', 'SCOPE', 'TENANTS', 'STATE', 'EXPIRES', 'LAST USED', 'REPOSITORIES', 'SECRETS'], rows)
}
