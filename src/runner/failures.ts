import { InfrastructureError, type InfrastructureErrorFields, type InfrastructureErrorKind } from '../job/errors.js'
import { cutText } from '../job/harmless-text.js'
import { struckOut } from '../job/struck-out.js'
import { gitReason, sortGitFailure } from '../git/failures.js'

/** What a failure is about, for its sentence. */
export interface FailureContext {
  /** The provider's configured name. */
  readonly source: string
  /** The sandbox's image, as far as it is known. */
  readonly image: string
  readonly verb: string
  /** Whether a job may say how large the disk of a sandbox is. */
  readonly diskIsChosen: boolean
  /** Secrets of the call; they are taken out of what git and the host said. */
  readonly secrets: readonly string[]
}

/** LFS objects could not be uploaded from a sandbox. The consumer may do it. */
export class LfsUploadError extends InfrastructureError {
  constructor(source: string, message: string) {
    super({ kind: 'transient', owner: 'sandbox', source, message })
  }
}

/** What git says where the sandbox's disk is full. */
const noRoom = /No space left|quota exceeded|File too large|unable to write file /

/** Advises what the job can do at this provider. */
function fullDisk({ diskIsChosen }: FailureContext): string {
  const mend = diskIsChosen ? 'set resources.diskMiB' : 'run the job where sandboxes have more: from another template, or at another provider'
  return `the sandbox's disk is full; let the commands write less, or ${mend}`
}

const sentences: Readonly<Record<string, readonly [InfrastructureErrorKind, (detail: string, context: FailureContext) => string]>> = {
  disk: ['invalid', (_detail, context) => fullDisk(context)],
  'disk-broken': ['transient', (said) => `the sandbox's disk can't be written to (${gitReason(said)})`],
  'no-folder': ['invalid', (cwd) => (cwd === '' ? 'the repository is gone from the sandbox; a command removed it' : `cwd: there is no folder "${cwd}" in the repository; mend the path, or make the folder in an earlier step`)],
  'no-tree': ['invalid', () => 'the repository is gone from the sandbox, or is no folder any more; let no command remove ~/repository'],
  'no-state': ['invalid', () => 'the folder ~/.switchyard is gone from the sandbox or is not whole; let no command touch it'],
  'not-empty': ['invalid', (detail) => `the sandbox's ~/repository can't be emptied (${detail}); start from a fresh sandbox`],
  moved: ['invalid', (ref) => `${ref} moved while it was fetched, and the git host does not serve a commit by its sha alone; run the job again`],
  'lfs-withheld': ['invalid', () => "the agent's own commits need Git LFS objects that the git host has not taken"],
  'no-commit': ['invalid', (sha) => `the sandbox does not have the commit ${sha} that is to be pushed`],
  work: ['invalid', (detail) => `git can't save the work as it is: ${gitReason(detail)}`],
  'no-artifact': ['invalid', (path) => `${path} is gone, or is no regular file any more`],
  'no-pack': ['transient', () => 'the commits on their way are gone from ~/.switchyard in the sandbox'],
  used: ['transient', () => 'steps have run in this sandbox of which the record knows nothing, since Redis went back to before them; the job needs another one'],
  killed: ['transient', (code) => `git was killed in the sandbox (exit code ${code}), which may be short of memory`],
  busy: ['transient', () => 'another git operation is still at work in the sandbox'],
  'not-started': ['transient', () => "the step's supervisor did not start in the sandbox"],
  'not-stopped': ['transient', () => "the step's processes did not end"],
}

/**
 * Sorts a failure that the script reported by keyword into the one vocabulary. What no try can mend is the job's, whose commands
 * share the sandbox with the script; what may pass is the sandbox's. Never the provider's: whatever answers here was reached.
 */
export function runnerFailure(keyword: string, detail: string, context: FailureContext): InfrastructureError {
  const said = struckOut(detail.trim(), context.secrets)
  const where = `${context.source}: ${context.verb}`
  if (keyword === 'git') return gitFailure(said, where, context)
  if (keyword === 'work' && noRoom.test(said)) return runnerFailure('disk', '', context)
  if (keyword === 'lfs') return new LfsUploadError(context.source, `${where}: LFS objects could not be uploaded from the sandbox: ${cutText(said, 300)}`)
  const known = Object.hasOwn(sentences, keyword) ? sentences[keyword] : undefined
  if (known === undefined) return forgedAnswer(context, `it failed with "${keyword.slice(0, 40)}"`)
  const [kind, sentence] = known
  return new InfrastructureError({ kind, owner: kind === 'invalid' ? 'job' : 'sandbox', source: context.source, message: `${where}: ${sentence(cutText(said, 300), context)}` })
}

/** An answer that the script never gives: something that the job's commands did answers in its place. */
export function forgedAnswer({ source, verb }: Pick<FailureContext, 'source' | 'verb'>, what: string): InfrastructureError {
  return new InfrastructureError({
    kind: 'invalid',
    owner: 'job',
    code: 'SWY_RUNNER_ANSWER',
    source,
    message: `${source}: ${verb}: what answered in the sandbox is not Switchyard's runner (${what}); let no command touch ~/.switchyard, /bin/sh or the tools in PATH`,
  })
}

/**
 * What git in the sandbox says is what the sandbox says: a refused token or a host that is away are claims, which the consumer holds
 * against what the host tells itself (`checkedClaim` in the consumer) before anybody is blamed.
 */
function gitFailure(said: string, where: string, context: FailureContext): InfrastructureError {
  const reason = gitReason(said)
  const error = (fields: Pick<InfrastructureErrorFields, 'kind' | 'owner' | 'code' | 'retryAfterMs'>, message: string) => new InfrastructureError({ ...fields, source: context.source, message: `${where}: ${message}` })
  const own = said.replaceAll(/^(remote: |error: remote unpack failed|!).*/gm, '')
  if (noRoom.test(own)) return error({ kind: 'invalid', owner: 'job' }, fullDisk(context))
  if (/No space left on device|Disk quota exceeded/.test(said) && !/hook declined/.test(said)) return error({ kind: 'transient', owner: 'git-host' }, `the git host's disk is full (${reason})`)
  if (/\[rejected\]/.test(said)) return error({ kind: 'invalid', owner: 'job', code: 'SWY_PUSH_REFUSED' }, `the branch has commits that this push does not build on, and a push is never forced (${reason})`)
  if (/unpacker error|unpack failed|index-pack|fsck|missing necessary objects/.test(said)) return error({ kind: 'invalid', owner: 'job', code: 'SWY_PUSH_REFUSED' }, `the git host does not take these commits (${reason})`)
  if (/shallow update not allowed/.test(said)) return error({ kind: 'invalid', owner: 'git-repository' }, `the git host takes no history whose beginning it lacks (${reason})`)
  const sorted = sortGitFailure(said, false)
  if (sorted.code === 'SWY_PUSH_REFUSED') return error(sorted, `the git host refuses this push: ${reason}; it is not tried again`)
  return error({ ...sorted, kind: sorted.kind === 'provider-down' ? 'transient' : sorted.kind }, `git failed: ${reason}`)
}

const words: Readonly<Record<string, string>> = { 'ca-certificates': 'CA certificates' }

/**
 * Names the image and the mend when the sandbox lacks what the runner stands on.
 * @param because a clause on why it could not be installed, where that was to be expected.
 */
export function unfitImage(context: FailureContext, missing: string, because?: string): InfrastructureError {
  const kept = because === undefined ? '' : `, and it could not be installed: ${because}`
  return new InfrastructureError({
    kind: 'invalid',
    owner: 'job',
    source: context.source,
    message: `${context.source}: ${context.image} has no ${words[missing] ?? missing}${kept}; use an image with git, CA certificates and a POSIX shell with the standard tools (Debian: apt-get install git ca-certificates, Alpine: apk add git ca-certificates)`,
  })
}
