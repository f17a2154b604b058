import { fetchAsPack, pushPack } from '../../git/carried-pack.js'
import type { CallOptions } from '../../providers/provider.js'
import { cloneDepth } from '../../runner/runner.js'
import { sendLfsObjects, withoutRefusedLfs } from './lfs-objects.js'
import { pushMade, withoutToken, type Transfer, type TransferParts, type TransferPush } from './transfer.js'

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
    let lfsObjects = 0
    const bring = async (writePiece: (piece: Buffer) => Promise<void>) => {
      const packed = await runner.pack({ sha, baseSha, parentSha: from.sha, maxBytes, write: writePiece }, options)
      lfsObjects = packed.lfsObjects
      return packed
    }
    const beforePush = async () => {
      if (lfsObjects > 0) await sendLfsObjects({ runner, source: git.name, sha, branch, access: write }, options)
      lfsObjects = 0
      await confirmHeld()
    }
    await pushPack(git.name, { read, write, sha, branch, parent: from, limits: { maxObjectBytes: maxBytes }, bring, beforePush }, options)
  }

  return {
    async clone({ from, ...request }, options) {
      const access = await toRead(from.ephemeral)
      return fetchAsPack(git.name, access, { ...from, depth: cloneDepth(request), baseSha: request.checkpoint?.baseSha, maxBytes }, options, (pack) =>
        runner.clone({ access: withoutToken(access), ref: from.ref, sha: from.sha, ...request, pack }, options),
      )
    },
    checkpoint({ from, branch, ...request }, options) {
      return withoutRefusedLfs(runner, options, async () => {
        const made = await runner.checkpoint({ ...request, parent: from.sha }, options)
        return pushMade(made, (sha) => push({ sha, branch, baseSha: request.baseSha, from }, options))
      })
    },
    push,
  }
}
