import { LfsObjectsRefusedError } from '../../git/lfs-upload.js'
import type { GitAccess, GitHost } from '../../git/host.js'
import type { CallOptions, Provider } from '../../providers/provider.js'
import { InfrastructureError } from '../../job/errors.js'
import type { CheckpointRequest, CheckpointResult, CloneRequest, CloneResult, Runner } from '../../runner/runner.js'

/**
 * How commits get from the git host into a sandbox and back. Three ways, by the provider's `credentials`:
 *
 * - `minted`: git in the sandbox talks to the host, with a token in the environment of that one process (./minted.ts);
 * - `injected`: git in the sandbox talks to the host without a token; the provider adds it outside of the sandbox (./injected.ts);
 * - `brokered`: nothing in the sandbox talks to the host; the consumer carries packs to and fro (./brokered.ts).
 *
 * Whichever it is, each call may be made again, by another consumer too, after the first was killed at any point.
 */
export interface Transfer {
  /** As `Runner.clone`. */
  clone(request: TransferClone, options: CallOptions): Promise<CloneResult>
  /** As `Runner.checkpoint`: when it returns, the checkpoint is on its branch at the host. */
  checkpoint(request: TransferCheckpoint, options: CallOptions): Promise<CheckpointResult | null>
  /** As `Runner.push`. */
  push(request: TransferPush, options: CallOptions): Promise<void>
}

/** The last commit of the job that the host has: where it began, or its last checkpoint. */
export interface SavedCommit {
  readonly sha: string
  /** The full ref that stands at it. */
  readonly ref: string | null
  /** Whether that ref is in the namespace of job branches. */
  readonly ephemeral: boolean
}

export interface TransferClone extends Pick<CloneRequest, 'branch' | 'checkpoint' | 'paths' | 'lfs'> {
  readonly from: SavedCommit
}

export interface TransferCheckpoint extends Omit<CheckpointRequest, 'parent'> {
  readonly branch: string
  /** What it is made on top of. */
  readonly from: SavedCommit
}

export interface TransferPush {
  readonly sha: string
  readonly branch: string
  readonly baseSha: string
  readonly from: SavedCommit
}

export interface TransferParts {
  readonly runner: Runner
  readonly git: GitHost
  readonly repository: string
  /** Told every token and what else must not be seen, before it is used. */
  readonly onSecret: (value: string) => void
  /** Asked right before commits go to the host. Throws when the job is another consumer's by now. */
  readonly confirmHeld: () => Promise<void>
}

/** For a sandbox whose git is given none. */
export const withoutToken = ({ url, lfsUrl }: GitAccess): Pick<GitAccess, 'url' | 'lfsUrl'> => (lfsUrl === undefined ? { url } : { url, lfsUrl })

/** Has the provider add headers to what a sandbox sends; see `Provider.injectHeaders`. */
export type InjectHeaders = (headers: Parameters<NonNullable<Provider['injectHeaders']>>[1], options: CallOptions) => Promise<void>

/**
 * Pushes a checkpoint; where the host does not take the agent's history or what goes along with the files, its files alone.
 * @returns what was pushed.
 */
export async function pushMade(made: CheckpointResult | null, push: (sha: string) => Promise<void>): Promise<CheckpointResult | null> {
  if (made === null) return null
  try {
    await push(made.sha)
    return made
  } catch (error) {
    if (!(error instanceof InfrastructureError) || error instanceof LfsObjectsRefusedError || error.kind !== 'invalid' || made.plain.sha === made.sha) throw error
    await push(made.plain.sha)
    const note = `the git host takes only the files of this checkpoint, and neither the agent's own commits nor its git state: ${error.message}`
    return { ...made, ...made.plain, holdsPaths: false, notes: [...made.notes, note] }
  }
}
