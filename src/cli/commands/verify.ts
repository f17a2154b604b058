import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Command } from 'commander'
import type { ProvenanceCheck } from '../../git/signature.js'
import { InvalidInputError } from '../../job/errors.js'
import { harmlessLine } from '../../job/harmless-text.js'
import { exitCodes } from '../exit-codes.js'
import { print, printJson } from '../print.js'
import { collect, configOf, withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

interface VerifyFlags extends SharedFlags {
  readonly repository: string
  readonly publicKey?: readonly string[]
}

const callTimeoutMs = 60_000

/** `switchyard verify`: whether a commit was signed with a key of this deployment's. */
export function addVerifyCommand(program: Command): void {
  const command = program
    .command('verify <commit>')
    .description('check a commit’s signature, and its provenance statement if it has one, against the key in git.signing or others')
    .requiredOption('-r, --repository <id>', 'the repository that has the commit')
    .option('--public-key <file>', 'a file with public keys that are good besides (may be given several times)', collect)
  withConfigOption(withJsonOption(command, 'what was found'))
  command
    .addHelpText(
      'after',
      `
COMMIT is a branch, a tag or a full sha. The exit code is 1 when the commit has no good signature, or a provenance statement that is not good.

Example:
  switchyard verify main --repository acme/web --public-key signing-key.pub`,
    )
    .action(async (commit: string, flags: VerifyFlags) => {
      const { createGitHost } = await import('../../config/git-host.js')
      const { withKeyFiles } = await import('../../config/key-files.js')
      const { publicKeyOf } = await import('../../git/signing.js')
      const { config, path } = await configOf(flags)
      const directory = path === undefined ? '.' : dirname(path)
      const host = createGitHost(config.git, { directory, environment: withKeyFiles(process.env, config.keyFiles, directory) })
      const files = await Promise.all((flags.publicKey ?? []).map(readPublicKeys))
      const own = host.signing === null ? [] : [await publicKeyOf(host.name, host.signing), ...host.signing.publicKeys]
      const keys = [...own, ...files]
      if (keys.length === 0) throw new InvalidInputError('--public-key: is missing, and the configuration has no git.signing; give the file of a public key')
      const options = { timeoutMs: callTimeoutMs }
      const { sha } = await host.resolve(flags.repository, commit, options)
      const found = await host.checkSignature(flags.repository, sha, keys, options)
      const provenance = await host.provenance(flags.repository, sha, keys, options)
      const text = found.good ? `${sha} is signed with ${found.key}, which is known` : `${sha} is not verified: ${found.reason}`
      if (flags.json === true) printJson({ repository: flags.repository, sha, ...found, provenance })
      else print([text, saidOf(provenance)].map(harmlessLine).join('\n'))
      if (!found.good || (provenance.found && !provenance.good)) process.exitCode = exitCodes.jobFailed
    })
}

function saidOf(provenance: ProvenanceCheck): string {
  if (!provenance.found) return 'there is no provenance statement on it'
  return provenance.good ? `its provenance statement is signed with ${provenance.key} (--json shows it)` : provenance.reason
}

async function readPublicKeys(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new InvalidInputError(`--public-key: "${path}" can’t be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`)
  }
}
