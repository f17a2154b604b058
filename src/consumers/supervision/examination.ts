import { checkPush } from '../../git/push-check.js'
import { workBranch } from '../../job/names.js'
import { InfrastructureError, attributed, type ErrorOrigin, type ErrorOwner } from '../../job/errors.js'
import type { RunContext } from '../run-context.js'

/** What was found out about an error before anything is decided. */
export interface Examined {
  readonly error: unknown
  readonly origin: ErrorOrigin
  /** Whether the provider said just now that the job's sandbox lives. */
  readonly lives: boolean
}

/**
 * Finds out whose an error is as far as somebody can be asked: what the sandbox says of the git host, the host is asked itself; whether
 * a sandbox that does not answer lives, its provider is asked.
 * @param tries how often the same was tried, from 1.
 */
export async function examine(ctx: RunContext, thrown: unknown, tries: number): Promise<Examined> {
  const where = ctx.record.sandbox?.provider ?? ctx.record.creating?.provider ?? null
  if (!(thrown instanceof InfrastructureError)) return { error: ownShortage(thrown) ?? thrown, origin: 'git', lives: false }
  const origin = where === null || thrown.source !== where ? 'git' : ctx.record.sandbox === null ? 'create' : 'exec'
  if (origin !== 'exec') return { error: attributed(thrown, origin), origin, lives: false }
  const error = await checkedClaim(ctx, attributed(thrown, origin), tries)
  return { ...(await stateOfSandbox(ctx, error, tries)), origin: error.source === where ? origin : 'git' }
}

/** What this machine may have nothing left of for the moment, by the code with which the system says so of a call. */
const lacking: Readonly<Record<string, string>> = { EMFILE: 'open files', ENFILE: 'open files', EAGAIN: 'processes', ENOMEM: 'memory', ENOSPC: 'disk', EDQUOT: 'disk' }

/** The consumer's own programs and files (git, what is carried between sandbox and host) need some of its machine too. That there is none is no defect, and passes. */
function ownShortage(thrown: unknown): InfrastructureError | undefined {
  if (!(thrown instanceof Error)) return undefined
  const { code } = thrown as NodeJS.ErrnoException
  const what = code === undefined ? undefined : lacking[code]
  if (what === undefined) return ownShortage(thrown.cause)
  return new InfrastructureError({ kind: 'transient', owner: 'consumer-configuration', source: 'consumer', message: `this consumer's machine has too little of: ${what} (${thrown.message}); give it more, or start another consumer elsewhere`, cause: thrown })
}

const hostsFaults: ReadonlySet<ErrorOwner> = new Set<ErrorOwner>(['git-host', 'git-repository', 'consumer-keys'])

/**
 * Fetches and pushes run in the sandbox, and what git says there is what the sandbox says. The host is asked from here, for the same
 * repository and with the same rights: does it refuse this consumer as well, its answer is the error. Else, when that is so twice, a
 * refused push is the job's, and what fails on the way is the sandbox's, or in the end, when the sandbox holds the only copy of the work, waited for.
 */
async function checkedClaim(ctx: RunContext, error: InfrastructureError, tries: number): Promise<InfrastructureError> {
  if (error.owner === undefined || !hostsFaults.has(error.owner) || error.kind === 'invalid') return error
  // The token may have run out on the way: the next try mints another.
  if (error.kind === 'auth' && tries < 2) return error.with({ owner: 'sandbox', kind: 'transient' })
  const pushes = ctx.record.phase === 'pushing'
  try {
    await (pushes ? askToPush(ctx) : askToRead(ctx))
  } catch (refusal) {
    ctx.aftermath.throwIfAborted()
    return refusal instanceof InfrastructureError ? attributed(refusal, 'git') : error
  }
  if (error.kind === 'auth' && !disprovedTwice(ctx, tries)) return error.with({ owner: 'sandbox', kind: 'transient' })
  if (!pushes) return error.with({ owner: 'sandbox' })
  if (error.kind !== 'auth') return error.with({ owner: 'git-repository' })
  return error.with({
    kind: 'invalid',
    owner: 'job',
    code: 'SWY_PUSH_REFUSED',
    message: `${error.message}; the git host takes this job's token from the consumer, so it refuses what is pushed, or something in the sandbox answers in its place`,
  })
}

/**
 * A key that is changed, or a repository that is opened again, between the sandbox's call and ours looks the same as a sandbox that lies.
 * So its word is held against it when the host took this consumer's own call before the sandbox's and after it.
 */
function disprovedTwice(ctx: RunContext, tries: number): boolean {
  const { phase } = ctx.record
  const before = ctx.disproved
  ctx.disproved = { phase, tries }
  return before?.phase === phase && before.tries === tries - 1
}

function askToRead(ctx: RunContext): Promise<unknown> {
  return ctx.shared.git.resolve(ctx.spec.repository, null, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.aftermath })
}

function askToPush(ctx: RunContext): Promise<void> {
  return checkPush(ctx.shared.git, ctx.spec.repository, workBranch(ctx.record), { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.aftermath })
}

/** Before a sandbox is waited for or given up, its provider is asked whether it is still there. */
async function stateOfSandbox(ctx: RunContext, error: InfrastructureError, tries: number): Promise<Pick<Examined, 'error' | 'lives'>> {
  const { sandbox } = ctx.record
  const provider = sandbox === null ? undefined : ctx.shared.providers.get(sandbox.provider)?.provider
  const unreachable = error.owner === 'provider-data-plane' || (error.owner === 'sandbox' && error.kind !== 'sandbox-lost')
  const isAskedAtOnce = error.kind === 'provider-down' || error.kind === 'rate-limited'
  if (sandbox === null || provider === undefined || !unreachable || (tries < 2 && !isAskedAtOnce)) return { error, lives: false }
  try {
    const found = await provider.get(sandbox.id, { timeoutMs: ctx.shared.settings.callTimeoutMs, signal: ctx.aftermath })
    if (found !== undefined) return { error, lives: true }
    const message = `${sandbox.provider}: sandbox ${sandbox.id} is gone`
    return { error: new InfrastructureError({ kind: 'sandbox-lost', owner: 'sandbox', source: sandbox.provider, message, cause: error }), lives: false }
  } catch (probeError) {
    ctx.aftermath.throwIfAborted()
    // A provider that limits calls is there, and says nothing against the sandbox.
    if (probeError instanceof InfrastructureError && probeError.kind === 'rate-limited') return { error, lives: true }
    return { error: probeError instanceof InfrastructureError ? attributed(probeError, 'create') : error, lives: false }
  }
}
