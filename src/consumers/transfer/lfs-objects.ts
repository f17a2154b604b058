import { uploadLfsObjects, LfsObjectsRefusedError } from '../../git/lfs-upload.js'
import type { GitAccess } from '../../git/host.js'
import { errorMessage } from '../../job/errors.js'
import type { CallOptions } from '../../providers/provider.js'
import { LfsUploadError, type Runner } from '../../runner/index.js'

/**
 * LFS objects that a job made, before the refs that need them are pushed. git-lfs in the sandbox uploads them where it can; what it can't
 * the consumer carries and uploads; and what the host does not take is left out of what is saved, file by file.
 */
interface ObjectsToSend {
  readonly runner: Runner
  /** The git host's name. */
  readonly source: string
  readonly sha: string
  readonly branch: string
  readonly access: GitAccess
}

/** Pushes; where the sandbox can't upload the objects that are needed, once more after they were sent from here. */
export async function withLfsObjects(objects: ObjectsToSend, options: CallOptions, push: () => Promise<void>): Promise<void> {
  try {
    await push()
  } catch (error) {
    if (!(error instanceof LfsUploadError)) throw error
    await sendLfsObjects(objects, options, errorMessage(error))
    await push()
  }
}

/** @throws LfsObjectsRefusedError when the host does not take them. */
export async function sendLfsObjects({ runner, source, sha, branch, access }: ObjectsToSend, options: CallOptions, because?: string): Promise<void> {
  const objects = await runner.lfsObjects(sha, options)
  const upload = { ref: `refs/heads/${branch}`, objects, because, read: (object: (typeof objects)[number], write: (piece: Buffer) => Promise<void>) => runner.readLfsObject(object, write, options) }
  await uploadLfsObjects(source, access, upload, options)
  for (const oid of new Set(objects.map((object) => object.oid))) await runner.lfsSent(oid, options)
}

/** Makes and pushes something; once more without the files whose objects the host does not take. */
export async function withoutRefusedLfs<Result>(runner: Runner, options: CallOptions, make: () => Promise<Result>): Promise<Result> {
  try {
    return await make()
  } catch (error) {
    if (!(error instanceof LfsObjectsRefusedError)) throw error
    await runner.withholdLfs(error.oids, options)
    return make()
  }
}
