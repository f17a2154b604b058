import { InfrastructureError } from '../../job/errors.js'
import type { GitAccess } from '../../git/host.js'
import type { CallOptions } from '../../providers/provider.js'
import { withLfsObjects, withoutRefusedLfs } from './lfs-objects.js'
import { pushMade, withoutToken, type InjectHeaders, type Transfer, type TransferParts, type TransferPush } from './transfer.js'

/** How often it is tried to take a header away. */
const triesToTakeAway = 3

/**
 * The provider adds the token to the requests of the sandbox's git, outside of the sandbox, while one fetch or push runs; then it is
 * taken away again. Nothing in the sandbox can read it, but while it is there, everything in the sandbox can use it.
 *
 * A consumer that is killed in between leaves the header behind: it is good for as long as its token, and the next one replaces it.
 */
export function injectedTransfer(parts: TransferParts & { readonly injectHeaders: InjectHeaders; readonly callTimeoutMs: number }): Transfer {
  const { runner, git, repository, onSecret, confirmHeld, injectHeaders, callTimeoutMs } = parts

  async function withHeader<Result>(access: GitAccess, options: CallOptions, work: () => Promise<Result>): Promise<Result> {
    const credentials = Buffer.from(`${access.username}:${access.token}`).toString('base64')
    for (const secret of [access.token, credentials]) onSecret(secret)
    let failed: { readonly error: unknown } | undefined
    let done: { readonly result: Result } | undefined
    try {
      await injectHeaders({ [new URL(access.url).hostname]: { Authorization: `Basic ${credentials}` } }, { timeoutMs: callTimeoutMs, signal: options.signal })
      done = { result: await work() }
    } catch (error) {
      failed = { error }
    }
    try {
      await takeAway()
    } catch (error) {
      // Both fail most often because the sandbox is gone, which the first error says as well.
      throw failed === undefined ? error : failed.error
    }
    if (done === undefined) throw failed?.error
    return done.result
  }

  /** Not by the job's own signal: also what is broken off leaves nothing behind. */
  async function takeAway(): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await injectHeaders({}, { timeoutMs: callTimeoutMs })
        return
      } catch (error) {
        const passing = error instanceof InfrastructureError && ['transient', 'timeout', 'rate-limited'].includes(error.kind)
        if (!passing || tries === triesToTakeAway) throw error
      }
    }
  }

  async function push({ sha, branch }: Pick<TransferPush, 'sha' | 'branch'>, options: CallOptions): Promise<void> {
    const access = await git.writeAccess(repository, { branch })
    await confirmHeld()
    await withLfsObjects({ runner, source: git.name, sha, branch, access }, options, () =>
      withHeader(access, options, () => runner.push({ sha, branch, access: withoutToken(access) }, options)),
    )
  }

  return {
    async clone({ from, ...request }, options) {
      const access = await git.readAccess(repository, { ephemeral: from.ephemeral })
      return withHeader(access, options, () => runner.clone({ access: withoutToken(access), ref: from.ref, sha: from.sha, ...request }, options))
    },
    checkpoint({ from, branch, ...request }, options) {
      return withoutRefusedLfs(runner, options, async () => {
        const made = await runner.checkpoint({ ...request, parent: from.sha }, options)
        return pushMade(made, (sha) => push({ sha, branch }, options))
      })
    },
    push,
  }
}
