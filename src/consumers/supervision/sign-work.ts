import { InfrastructureError } from '../../job/errors.js'
import { workBranch } from '../../job/names.js'
import { provenanceStatement } from '../../job/provenance.js'
import type { RunContext } from '../run-context.js'
import { commitAuthor, commitMessage, switchyardIdentity } from './commit-message.js'

/**
 * Signs the work that was pushed, where the git host's configuration says so: from then on the signed commit is the job's. It is made
 * at the consumer, from what stands at the branch. Recorded before it is pushed, it is known again when that push's answer is lost.
 * Nothing to do when it was done before.
 */
export async function signWork(ctx: RunContext, signal: AbortSignal): Promise<void> {
  const { git, settings } = ctx.shared
  const { base, finalCommit, signature, attempts } = ctx.record
  if (git.signing === null || base === null || finalCommit === null || signature?.done === true) return
  const options = { timeoutMs: settings.gitTimeoutMs, signal }
  const branch = workBranch(ctx.record)
  if (signature !== null) {
    const head = await git.branchHead(ctx.spec.repository, { name: branch, ephemeral: git.ephemeral }, options)
    if (head === signature.sha) {
      await ctx.update({ finalCommit: head, signature: { ...signature, done: true } })
      return
    }
  }
  const last = attempts.findLast((attempt) => attempt.sandboxId !== null)
  const message = commitMessage(ctx.spec.push, { jobId: ctx.jobId, provider: last?.provider ?? '', sandboxId: last?.sandboxId ?? '', attempt: attempts.length })
  const added = { message, author: commitAuthor(ctx.spec.push), committer: switchyardIdentity }
  const signed = await git.sign(ctx.spec.repository, { branch, sha: finalCommit, baseSha: base.sha, added }, options, async ({ sha }) => {
    await ctx.update({ signature: { of: finalCommit, sha, done: false } })
    await ctx.confirmHeld()
  })
  await ctx.update({ finalCommit: signed.sha, signature: { of: finalCommit, sha: signed.sha, done: true } })
  await ctx.say(told(signed.how, signed.commits, signed.sha))
}

/**
 * Leaves a provenance statement on the work's commit, where that is configured: what it says is this consumer's word, from the record.
 * Where the host does not take it, the job's log says so; the work stands without it.
 */
export async function attestWork(ctx: RunContext, ephemeral: boolean, signal: AbortSignal): Promise<void> {
  const { git, settings, deployment, release, now } = ctx.shared
  const { record, spec } = ctx
  if (git.signing?.provenance !== true || record.finalCommit === null) return
  const statement = provenanceStatement({ commit: record.finalCommit, spec, record, deployment, version: release, finishedAtMs: now() })
  try {
    await git.attest(spec.repository, { sha: record.finalCommit, ephemeral, statement }, { timeoutMs: settings.gitTimeoutMs, signal })
  } catch (error) {
    if (!(error instanceof InfrastructureError) || error.kind !== 'invalid') throw error
    await ctx.sayOnce(`no provenance statement was left on ${record.finalCommit}: ${error.message}`)
  }
}

function told(how: 'added' | 'on top' | 'anew', commits: number, sha: string): string {
  switch (how) {
    case 'added':
      return `the commit of the work is signed: ${sha}`
    case 'on top':
      return `a signed commit with the same files stands on top of the agent's commits: ${sha}`
    case 'anew':
      return `the job's commits were made anew and signed (${commits}), so they have other names now: ${sha}`
  }
}
