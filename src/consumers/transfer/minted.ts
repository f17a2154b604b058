import type { Transfer, TransferParts } from './transfer.js'

/** Git in the sandbox has a token of its own: in the environment of one process, for the seconds that it runs. */
export function mintedTransfer({ runner, git, repository, onSecret, confirmHeld }: TransferParts): Transfer {
  const toWrite = async (branch: string) => {
    const access = await git.writeAccess(repository, { branch })
    onSecret(access.token)
    await confirmHeld()
    return access
  }
  return {
    async clone({ from, branch, checkpoint }, options) {
      const access = await git.readAccess(repository, { ephemeral: from.ephemeral })
      onSecret(access.token)
      await runner.clone({ access, ref: from.ref, sha: from.sha, branch, checkpoint }, options)
    },
    async checkpoint({ from, ...request }, options) {
      return runner.checkpoint({ ...request, parent: from.sha, access: await toWrite(request.branch) }, options)
    },
    async push({ sha, branch }, options) {
      await runner.push({ sha, branch, access: await toWrite(branch) }, options)
    },
  }
}
