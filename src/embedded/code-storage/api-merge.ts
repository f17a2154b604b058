import type { Hono } from 'hono'
import { z } from 'zod'
import { fullSha, gitText, identity, identityVariables, queryFlag, readBody, readQuery, repositoryOf, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'
import { branchRef, enforcePolicy, type Refs } from './refs.js'
import type { GitRunner, Repository } from './repositories.js'

/**
 * A merge is decided first and applied after, as one compare-and-swap of the target's ref:
 * read both tips → `planMerge` → nothing, the source's commit, or a new commit → swap. When the target moved in between,
 * a caller that named the sha it expects gets 409 `target_moved`; for the others it starts again with the same source.
 */

const mergeBody = z.object({
  source_ref: z.string(),
  source_is_ephemeral: z.boolean().default(false),
  target_branch: z.string(),
  target_is_ephemeral: z.boolean().default(false),
  strategy: z.enum(['merge', 'ff_only', 'ff_prefer']),
  expected_target_sha: fullSha.optional(),
  commit_message: gitText(100_000).min(1).optional(),
  author: identity.optional(),
  committer: identity.optional(),
  allow_unrelated_histories: z.boolean().default(false),
  squash: z.boolean().default(false),
})
type MergeBody = z.output<typeof mergeBody>
const previewQuery = z.object({
  source_branch: z.string(),
  source_is_ephemeral: queryFlag,
  target_branch: z.string(),
  target_is_ephemeral: queryFlag,
  include_content: queryFlag,
})

/** How two tips stand to each other. */
export interface Tips {
  readonly sourceInTarget: boolean
  readonly targetInSource: boolean
}
export type MergePlan = 'no_op' | 'fast_forward' | 'merge_commit' | 'squash' | 'not_fast_forward'

/** What a merge has to do. `merge` makes a commit also where a fast-forward would do. */
export function planMerge(tips: Tips, strategy: MergeBody['strategy'], squash: boolean): MergePlan {
  if (tips.sourceInTarget) return 'no_op'
  if (squash) return 'squash'
  if (tips.targetInSource && strategy !== 'merge') return 'fast_forward'
  return strategy === 'ff_only' ? 'not_fast_forward' : 'merge_commit'
}

/** Merge, and look at what a merge would do. */
export function mergeRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.post('/repository/merge', async (context) => {
    const { repository, refs, claims } = await repositoryOf(context, services, 'git:write')
    const body = await readBody(context, mergeBody, { source_branch: 'source_ref' })
    if (body.squash && body.strategy === 'ff_only') throw new ApiProblem(400, 'squash: can’t be combined with ff_only')
    const targetRef = branchRef(body.target_branch, body.target_is_ephemeral, 'target_branch')
    const source = await refs.named(body.source_ref, body.source_is_ephemeral, 'source_ref')
    enforcePolicy(claims, `refs/heads/${body.target_branch}`, true)
    for (let attempt = 0; attempt < 10; attempt++) {
      const old = await tip(refs, targetRef, body.target_branch)
      if (body.expected_target_sha !== undefined && old !== body.expected_target_sha) throw targetMoved(body.target_branch, old)
      const { result, sha, base } = await merged(services.store.git, repository, refs, { source, old, body })
      await refs.enforceSignatures(claims, `refs/heads/${body.target_branch}`, old, sha)
      if (sha === old || (await refs.compareAndSwap(targetRef, old, sha))) {
        return context.json({
          result,
          commit_sha: sha,
          tree_sha: (await refs.run(['rev-parse', `${sha}^{tree}`])).trim(),
          source: { branch: body.source_ref, ref: body.source_ref, ephemeral: body.source_is_ephemeral, sha: source },
          target: { branch: body.target_branch, ephemeral: body.target_is_ephemeral, old_sha: old, new_sha: sha },
          ...(base === null ? {} : { merge_base_sha: base }),
          promoted_commits: Number((await refs.run(['rev-list', '--count', `${old}..${source}`])).trim()),
        })
      }
    }
    throw new ApiProblem(409, `branch "${body.target_branch}" keeps moving`, { conflict_type: 'repo_changed' })
  })

  api.get('/repository/merge/preview', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, previewQuery)
    const source = await tip(refs, branchRef(query.source_branch, query.source_is_ephemeral, 'source_branch'), query.source_branch)
    const target = await tip(refs, branchRef(query.target_branch, query.target_is_ephemeral, 'target_branch'), query.target_branch)
    const plan = planMerge(await tipsOf(refs, source, target), 'ff_prefer', false)
    const tree: MergedTree = plan === 'merge_commit' ? await mergeTree(services.store.git, repository, target, source, false) : { conflicts: [] }
    const base = await refs.mergeBase(source, target)
    return context.json({
      status: tree.conflicts.length === 0 ? 'clean' : 'conflicted',
      result: plan,
      source_branch: query.source_branch,
      target_branch: query.target_branch,
      source_tip_sha: source,
      target_tip_sha: target,
      ...(base === null ? {} : { merge_base_sha: base }),
      conflict_paths: tree.conflicts,
      ...(query.include_content ? await conflictContents(services.store.git, repository, tree, { base, ours: target, theirs: source }) : { conflicts: [], filtered_conflicts: [] }),
    })
  })
}

function targetMoved(branch: string, now: string): ApiProblem {
  return new ApiProblem(409, `branch "${branch}" moved: it is at ${now}`, { conflict_type: 'target_moved' })
}

async function tip(refs: Refs, ref: string, branch: string): Promise<string> {
  const sha = await refs.commit(ref)
  if (sha === null) throw new ApiProblem(404, `branch "${branch}" not found`)
  return sha
}

async function tipsOf(refs: Refs, source: string, target: string): Promise<Tips> {
  const [sourceInTarget, targetInSource] = await Promise.all([refs.isAncestor(source, target), refs.isAncestor(target, source)])
  return { sourceInTarget, targetInSource }
}

/** The commit that the target is to stand at, made when there has to be one. */
async function merged(
  git: GitRunner,
  repository: Repository,
  refs: Refs,
  { source, old, body }: { source: string; old: string; body: MergeBody },
): Promise<{ result: string; sha: string; base: string | null }> {
  const base = await refs.mergeBase(source, old)
  const plan = planMerge(await tipsOf(refs, source, old), body.strategy, body.squash)
  if (plan === 'no_op') return { result: plan, sha: old, base }
  if (plan === 'fast_forward') return { result: plan, sha: source, base }
  const shared = base === null ? {} : { merge_base_sha: base }
  if (plan === 'not_fast_forward') {
    throw new ApiProblem(409, `branch "${body.target_branch}" can’t be fast-forwarded to "${body.source_ref}"`, { conflict_paths: [], ...shared })
  }
  if (base === null && !body.allow_unrelated_histories) throw new ApiProblem(409, 'the branches have no common commit', { conflict_paths: [] })
  if (body.author === undefined || body.commit_message === undefined) {
    throw new ApiProblem(400, 'author: commit_message and author are needed for a merge commit')
  }
  const tree = await mergeTree(git, repository, old, source, body.allow_unrelated_histories)
  if (tree.sha === undefined) {
    throw new ApiProblem(409, 'merge conflict', { conflict_type: 'merge_conflict', conflict_paths: [...tree.conflicts], ...shared })
  }
  const sha = await refs.run(['commit-tree', tree.sha, '-p', old, ...(plan === 'squash' ? [] : ['-p', source])], {
    input: body.commit_message,
    env: identityVariables(body.author, body.committer),
  })
  return { result: plan, sha: sha.trim(), base }
}

interface MergedTree {
  readonly sha?: string
  /** With the marks of conflicts in it. */
  readonly conflicted?: string
  readonly conflicts: readonly string[]
}

/** How many conflicts are shown with their content, and how much of each file, in bytes. */
const mostConflicts = 20
const mostContentBytes = 64 * 1024

/** The content of the files in conflict, as it is on each side. */
async function conflictContents(
  git: GitRunner,
  repository: Repository,
  { conflicts, conflicted }: MergedTree,
  { base, ours, theirs }: { base: string | null; ours: string; theirs: string },
): Promise<{ conflicts: object[]; filtered_conflicts: object[] }> {
  const blob = async (tree: string | null | undefined, path: string) => {
    const none = { truncated: false, binary: false }
    if (tree == null) return none
    const [entry = ''] = (await git(repository, ['--literal-pathspecs', 'ls-tree', '-z', '--full-tree', tree, '--', path])).stdout.toString('utf8').split('\0')
    const oid = /^\d+ blob ([0-9a-f]+)\t/.exec(entry)?.[1]
    if (oid === undefined) return none
    const { stdout, truncated } = await git(repository, ['cat-file', 'blob', oid], { maxOutputBytes: mostContentBytes })
    const binary = stdout.includes(0)
    return { oid, truncated, binary, ...(binary ? {} : { content: stdout.toString('utf8') }) }
  }
  const shown = conflicts.slice(0, mostConflicts)
  const contents = []
  for (const path of shown) contents.push({ path, result: await blob(conflicted, path), base: await blob(base, path), ours: await blob(ours, path), theirs: await blob(theirs, path) })
  return { conflicts: contents, filtered_conflicts: conflicts.slice(mostConflicts).map((path) => ({ path, reason: 'max_conflict_files_exceeded' })) }
}

async function mergeTree(
  git: GitRunner,
  repository: Repository,
  ours: string,
  theirs: string,
  unrelated: boolean,
): Promise<MergedTree> {
  const options = ['--write-tree', '-z', '--name-only', '--no-messages', ...(unrelated ? ['--allow-unrelated-histories'] : [])]
  const outcome = await git(repository, ['merge-tree', ...options, ours, theirs])
  const [sha = '', ...conflicts] = outcome.stdout.toString('utf8').split('\0').filter((part) => part !== '')
  if (outcome.exitCode === 0) return { sha: sha.trim(), conflicts: [] }
  if (outcome.exitCode === 1) return { conflicted: sha.trim(), conflicts: [...new Set(conflicts)] }
  throw new Error(`git merge-tree failed (git 2.38 or later is needed): ${outcome.stderr.trim()}`)
}
