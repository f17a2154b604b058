import { InfrastructureError } from '../job/errors.js'
import type { LfsPolicy } from '../job/spec.js'
import { numberField, type Answer } from './answer.js'
import { blockBytes, pieceBlocks, pieceOf, type BringParts } from './packs.js'
import type { LfsObject, LfsObjects } from './runner.js'

/** Git LFS, as the script is told of it and as it tells of it. */

/** How the script is told how LFS is to be treated. */
export function lfsEnvironment(policy: LfsPolicy | undefined): Record<string, string> {
  if (policy === undefined || policy === 'auto') return {}
  if (policy === 'off') return { SWITCHYARD_LFS: 'off' }
  return { SWITCHYARD_LFS: 'paths', SWITCHYARD_LFS_INCLUDE: (policy.include ?? []).join(','), SWITCHYARD_LFS_EXCLUDE: (policy.exclude ?? []).join(',') }
}

const mostObjects = 1000

/** @throws InfrastructureError `invalid` when there are too many. */
export function lfsObjectsOf(answer: Answer, source: string): LfsObjects {
  if (numberField(answer, 'count') > mostObjects) {
    throw new InfrastructureError({ kind: 'invalid', owner: 'job', source, message: `${source}: the commands made ${numberField(answer, 'count')} LFS objects, and no more than ${mostObjects} are carried out of a sandbox at once; let git-lfs in the sandbox upload them itself (credentials "minted" or "injected")` })
  }
  return { made: objectsIn(answer, 'objects'), absent: objectsIn(answer, 'absent').slice(0, mostObjects) }
}

function objectsIn(answer: Answer, blob: string): LfsObject[] {
  return (answer.blobs.get(blob)?.toString() ?? '').split('\n').flatMap((line) => {
    const [, oid, size, path] = /^([0-9a-f]{64}) (\d{1,15}) ?(.*)$/.exec(line) ?? []
    return oid === undefined ? [] : [{ oid, size: Number(size), path: (path ?? '').slice(0, 1000) }]
  })
}

/** @throws InfrastructureError `transient` when it has another size than was said. */
export async function bringLfsObject({ oid, size }: Pick<LfsObject, 'oid' | 'size'>, write: (piece: Buffer) => Promise<void>, { source, call }: BringParts): Promise<void> {
  for (let block = 0; block * blockBytes < size; block += pieceBlocks) {
    const piece = await call('lfs-piece', [oid, String(block), String(pieceBlocks)], pieceOf)
    if (piece.length !== Math.min(pieceBlocks * blockBytes, size - block * blockBytes)) {
      throw new InfrastructureError({ kind: 'transient', owner: 'sandbox', source, message: `${source}: the LFS object ${oid} came out of the sandbox incomplete; it can be tried again` })
    }
    await write(piece)
  }
}
