import { InfrastructureError, type InfrastructureErrorKind } from '../../job/errors.js'

/**
 * Sorts a failure that the script reported into the one vocabulary. `source` is the provider for what concerns the sandbox,
 * `git` for what git and its host said.
 */
export function runnerFailure(keyword: string, detail: string, context: { provider: string; verb: string; token: string | undefined }): InfrastructureError {
  const said = clean(detail, context.token)
  const error = (kind: InfrastructureErrorKind, message: string, source = context.provider) => new InfrastructureError({ kind, source, message })
  switch (keyword) {
    case 'git':
      return gitFailure(said, context.verb)
    case 'moved':
      return error('transient', `${context.verb}: the ref ${said} moved while it was fetched`, 'git')
    case 'disk':
      return error('invalid', `${context.verb}: the sandbox's disk is full; give the job more (resources.diskMiB) or make it write less`)
    case 'no-folder':
      return error('invalid', `steps: the folder "${said}" does not exist in the repository; mend the step's cwd`)
    case 'no-tree':
      return error('invalid', `${context.verb}: the job removed its own work tree; there is nothing to save`)
    case 'no-step':
    case 'no-state':
    case 'no-commit':
    case 'not-empty':
      return error('sandbox-lost', `${context.verb}: the sandbox lost the runner's state (${keyword}${said === '' ? '' : `: ${said}`})`)
    default:
      return error('transient', `${context.verb}: the runner failed (${keyword}${said === '' ? '' : `: ${said}`})`)
  }
}

const gitFailures: readonly (readonly [RegExp, InfrastructureErrorKind, string])[] = [
  [/No space left|quota exceeded/i, 'invalid', "the sandbox's disk is full"],
  [/denied by policy|hook declined|protected branch/i, 'invalid', 'the git host refused the push'],
  [/\[rejected\]|non-fast-forward|fetch first/i, 'invalid', 'the branch holds other commits and a push is never forced'],
  [/Authentication failed|could not read (Username|Password)|terminal prompts disabled|error: 40[13]|HTTP 40[13]/i, 'auth', 'the git host refused the token'],
  [/not our ref|couldn't find remote ref|unadvertised object|does not allow request|repository .*not found|error: 404/i, 'invalid', 'the git host does not have that repository, ref or commit'],
]

function gitFailure(said: string, verb: string): InfrastructureError {
  const found = gitFailures.find(([pattern]) => pattern.test(said))
  const line = said.split('\n').filter((text) => text.trim() !== '').slice(-3).join(' | ')
  // Anything else is a matter of the connection until it has failed often enough.
  return new InfrastructureError({ kind: found?.[1] ?? 'transient', source: 'git', message: `${verb}: ${found?.[2] ?? 'git failed'} (${line})` })
}

function clean(text: string, token: string | undefined): string {
  const plain = text.replaceAll(/[^\x20-\x7e\n]/g, '?').replaceAll(/\/\/[^/@\s]+@/g, '//').trim()
  return token === undefined || token === '' ? plain : plain.replaceAll(token, '***')
}
