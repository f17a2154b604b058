import { fetchAsPack, pushPack } from '../../git/carried-pack.js'
import type { CallOptions } from '../../providers/provider.js'
import { cloneDepth } from '../../runner/runner.js'
import { pushMade, type Transfer, type TransferParts, type TransferPush } from './transfer.js'

/**
 * The consumer fetches and pushes itself and carries packs into the sandbox and out of it, through `exec`. No token ever comes near the
 * sandbox, which needs no network for git either.
 */
export function brokeredTransfer({ runner, git, repository, onSecret, confirmHeld, maxBytes }: TransferParts & { readonly maxBytes: number }): Transfer {
  const toRead = async (ephemeral: boolean) => {
    const access = await git.readAccess(repository, { ephemeral })
    onSecret(access.token)
    return access
  }

  async function push({ sha, branch, baseSha, from }: TransferPush, options: CallOptions): Promise<void> {
    const [read, write] = await Promise.all([toRead(from.ephemeral), git.writeAccess(repository, { branch })])
    onSecret(write.token)
    const bring = (writePiece: (piece: Buffer) => Promise<void>) => runner.pack({ sha, baseSha, parentSha: from.sha, maxBytes, write: writePiece }, options)
    await pushPack(git.name, { read, write, sha, branch, parent: from, limits: { maxObjectBytes: maxBytes }, bring, beforePush: confirmHeld }, options)
  }

  return {
    async clone({ from, ...request }, options) {
      const access = await toRead(from.ephemeral)
      await fetchAsPack(git.name, access, { ...from, depth: cloneDepth(request), maxBytes }, options, (pack) =>
        runner.clone({ access: { url: access.url }, ref: from.ref, sha: from.sha, ...request, pack }, options),
      )
    },
    async checkpoint({ from, branch, ...request }, options) {
      const made = await runner.checkpoint({ ...request, parent: from.sha }, options)
      return pushMade(made, (sha) => push({ sha, branch, baseSha: request.baseSha, from }, options))
    },
    push,
  }
}
