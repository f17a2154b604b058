import type { CallOptions } from '../../providers/provider.js'
import { pushMade, type Transfer, type TransferParts, type TransferPush } from './transfer.js'

/** Git in the sandbox has a token of its own: in the environment of one process, for the seconds that it runs. */
export function mintedTransfer({ runner, git, repository, onSecret, confirmHeld }: TransferParts): Transfer {
  const toWrite = async (branch: string) => {
    const access = await git.writeAccess(repository, { branch })
    onSecret(access.token)
    await confirmHeld()
    return access
  }
  const push = async ({ sha, branch }: Pick<TransferPush, 'sha' | 'branch'>, options: CallOptions) => runner.push({ sha, branch, access: await toWrite(branch) }, options)
  return {
    async clone({ from, ...request }, options) {
      const access = await git.readAccess(repository, { ephemeral: from.ephemeral })
      onSecret(access.token)
      await runner.clone({ access, ref: from.ref, sha: from.sha, ...request }, options)
    },
    async checkpoint({ from, branch, ...request }, options) {
      const made = await runner.checkpoint({ ...request, parent: from.sha }, options)
      return pushMade(made, (sha) => push({ sha, branch }, options))
    },
    push,
  }
}
