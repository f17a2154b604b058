import { InfrastructureError } from '../../job/errors.js'
import type { RunContext } from '../run-context.js'

/** A job's own token can push to its branch; by that it gets no more names than this. */
const mostTaken = 20

export interface OwnBranch {
  /** By the record as it is. */
  readonly name: () => string
  /** Commits at which the branch may stand by this run's doing. */
  readonly knows: readonly string[]
  readonly signal: AbortSignal
}

/**
 * Pushes to a branch of this run's. A push is never forced, and the branch may hold commits that the run does not know: Redis went back to before this very
 * run, or another consumer's supervision of it, had pushed them; or a job that had its id left them. They stay where they are, and this run goes to
 * another branch, which it keeps to.
 */
export async function pushToOwn<Pushed>(ctx: RunContext, { name, knows, signal }: OwnBranch, push: (branch: string) => Promise<Pushed>): Promise<Pushed> {
  for (;;) {
    const branch = name()
    try {
      return await push(branch)
    } catch (error) {
      const taken = ctx.record.takenBranches ?? []
      if (!(error instanceof InfrastructureError) || error.code !== 'SWY_PUSH_REFUSED' || taken.length >= mostTaken) throw error
      // What git says in the sandbox is what the sandbox says; the host is asked itself.
      const { git, settings } = ctx.shared
      const head = await git.branchHead(ctx.spec.repository, { name: branch, ephemeral: git.ephemeral }, { timeoutMs: settings.callTimeoutMs, signal })
      if (head === null || knows.includes(head)) throw error
      await ctx.update({ takenBranches: [...taken, branch] })
      await ctx.say(`"${branch}" stands at ${head.slice(0, 12)}, which this run did not push: it was pushed by a run that Redis has lost, or by another job of the same id; it stays as it is, and this run pushes to "${name()}"`)
    }
  }
}
