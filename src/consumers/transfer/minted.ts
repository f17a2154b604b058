import type { CallOptions } from '../../providers/provider.js'
import { withLfsObjects, withoutRefusedLfs } from './lfs-objects.js'
import { pushMade, type Transfer, type TransferParts, type TransferPush } from './transfer.js'

/** Git in the sandbox has a token of its own: in the environment of one process, for the seconds that it runs. */
export function mintedTransfer({ runner, git, repository, onSecret, confirmHeld }: TransferParts): Transfer {
  const toWrite = async (branch: string) => {
    const access = await git.writeAccess(repository, { branch })
    onSecret(access.token)
    await confirmHeld()
    return access
  }
  const push = async ({ sha, branch }: Pick<TransferPush, 'sha' | 'branch'>, options: CallOptions) => {
    const access = await toWrite(branch)
    await withLfsObjects({ runner, source: git.name, sha, branch, access }, options, () => runner.push({ sha, branch, access }, options))
  }
  return {
    async clone({ from, ...request }, options) {
      const access = await git.readAccess(repository, { ephemeral: from.ephemeral })
      onSecret(access.token)
      return runner.clone({ access, ref: from.ref, sha: from.sha, ...request }, options)
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
