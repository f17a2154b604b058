import { lackedLfsObjects, LfsObjectsRefusedError, named, uploadLfsObjects } from '../../git/lfs-upload.js'
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

/** How often absent objects are asked for, a thousand at a time. */
const mostRounds = 50

/** @throws LfsObjectsRefusedError when the host does not take them, or lacks what is nowhere else. */
export async function sendLfsObjects({ runner, source, sha, branch, access }: ObjectsToSend, options: CallOptions, because?: string): Promise<void> {
  const ref = `refs/heads/${branch}`
  for (let round = 0; round < mostRounds; round++) {
    const { made, absent } = await runner.lfsObjects(sha, options)
    await uploadLfsObjects(source, access, { ref, objects: made, because, read: (object, write) => runner.readLfsObject(object, write, options) }, options)
    const lacked = await lackedLfsObjects(source, access, { ref, objects: absent }, options)
    if (lacked.length > 0) throw new LfsObjectsRefusedError(source, lacked.map(({ oid }) => oid), `${source}: the content of ${named(lacked)} is neither in the sandbox nor at the git host, which has only Git LFS pointers to it`)
    await runner.lfsSent([...new Set([...made, ...absent].map(({ oid }) => oid))], options)
    if (absent.length === 0) return
  }
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
