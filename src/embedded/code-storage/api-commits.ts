import type { Hono } from 'hono'
import { z } from 'zod'
import { checked, fullSha, gitText, identity, identityVariables, readBody, repositoryOf, type ApiContext, type ApiEnvironment, type ApiServices } from './request.js'
import { readCommitStream, type Contents } from './commit-stream.js'
import { Draft } from './drafts.js'
import type { PolicyClaims } from './policy.js'
import { ApiProblem } from './problem.js'
import { branchRef, enforcePolicy, zeroSha, type Refs } from './refs.js'
import type { GitRunner, Repository } from './repositories.js'

/**
 * Commits that the API makes: of files, of a diff, or of an earlier commit's tree. The content is written beside the
 * repository first; then, against where the branch stands: the token's policies → the tree → the commit → a compare-and-swap
 * of the branch. When it moved in between, a caller that named the sha it expects is refused, the others start again from there.
 */

const common = {
  target_branch: z.string(),
  commit_message: gitText(100_000).min(1),
  author: identity,
  committer: identity.optional(),
  expected_target_sha: fullSha.optional(),
  base_branch: z.string().optional(),
  target_is_ephemeral: z.boolean().default(false),
  base_is_ephemeral: z.boolean().default(false),
}
const entry = z.object({
  path: z.string(),
  operation: z.enum(['upsert', 'delete']).default('upsert'),
  content_id: z.string().optional(),
  mode: z.enum(['100644', '100755', '120000', '160000']).default('100644'),
})
const packMetadata = z.object({ ...common, files: z.array(entry).max(50_000) })
const diffMetadata = z.object(common)
const restoreMetadata = z.object({ ...common, commit_message: common.commit_message.optional(), base_ref: z.string().min(1) })
type Target = z.output<typeof diffMetadata>
type Entry = z.output<typeof entry>

const olderNames = { expected_head_sha: 'expected_target_sha', ephemeral: 'target_is_ephemeral', ephemeral_base: 'base_is_ephemeral', target_commit_sha: 'base_ref' }

/** Make commits: of files, of a diff, of an earlier tree. */
export function commitRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.post('/repository/commit-pack', async (context) => {
    const { repository, refs, claims } = await repositoryOf(context, services, 'git:write')
    return Draft.use(repository, refs, async (draft) => {
      const { metadata, contents } = await readCommitStream(context, draft.folder, async (value) => allowed(claims, checked(packMetadata, value, olderNames)))
      const shas = await hashed(draft, metadata.files, contents)
      const made = await commit(refs, claims, metadata, async (parent) => {
        await draft.startFrom(parent)
        await apply(draft, metadata.files, shas)
        return draft.tree()
      })
      return answer(context, metadata, made, { pack_bytes: contents.bytes, blob_count: contents.files.size })
    })
  })

  api.post('/repository/diff-commit', async (context) => {
    const { repository, refs, claims } = await repositoryOf(context, services, 'git:write')
    return Draft.use(repository, refs, async (draft) => {
      const { metadata, contents } = await readCommitStream(context, draft.folder, async (value) => allowed(claims, checked(diffMetadata, value, olderNames)))
      const [diff, ...more] = contents.files.values()
      if (diff === undefined || more.length > 0) throw new ApiProblem(400, 'diff_chunk: there must be one diff')
      const made = await commit(refs, claims, metadata, async (parent) => {
        await draft.startFrom(parent)
        await applyDiff(services.store.git, repository, draft, diff, metadata)
        return draft.tree()
      })
      return answer(context, metadata, made, { pack_bytes: contents.bytes, blob_count: 0 })
    })
  })

  api.post('/repository/restore-commit', async (context) => {
    const { refs, claims } = await repositoryOf(context, services, 'git:write')
    const body = await readBody(context, z.object({ metadata: z.unknown() }))
    const metadata = checked(restoreMetadata, body.metadata, olderNames)
    const source = await refs.named(metadata.base_ref, metadata.base_is_ephemeral, 'base_ref')
    const target = { ...metadata, commit_message: metadata.commit_message ?? `Restore ${metadata.target_branch} to ${source}` }
    const tree = (await refs.run(['rev-parse', `${source}^{tree}`])).trim()
    const made = await commit(refs, claims, target, async (parent) => {
      if (parent === null) throw new ApiProblem(404, `target_branch: "${metadata.target_branch}" was not found`)
      return tree
    })
    return answer(context, target, made, { pack_bytes: 0 })
  })
}

/** Refused before any content is taken. */
function allowed<Metadata extends Target>(claims: PolicyClaims, metadata: Metadata): Metadata {
  branchRef(metadata.target_branch, metadata.target_is_ephemeral, 'target_branch')
  enforcePolicy(claims, `refs/heads/${metadata.target_branch}`, true)
  return metadata
}

interface Made {
  readonly old: string
  readonly sha: string
  readonly tree: string
}

/** @param build makes the tree on top of a commit; null for the first one. It may be called again when the branch moved. */
async function commit(refs: Refs, claims: PolicyClaims, target: Target, build: (parent: string | null) => Promise<string>): Promise<Made> {
  const ref = branchRef(target.target_branch, target.target_is_ephemeral, 'target_branch')
  enforcePolicy(claims, `refs/heads/${target.target_branch}`, true)
  for (let attempt = 0; attempt < 10; attempt++) {
    const current = await refs.commit(ref)
    if (target.expected_target_sha !== undefined && current !== target.expected_target_sha) {
      throw refused(409, target, current, 'precondition_failed', `branch "${target.target_branch}" is at ${current ?? 'nothing'}, not at ${target.expected_target_sha}`)
    }
    const parent = current ?? (await startOf(refs, target))
    const tree = await build(parent)
    const sha = await refs.run(['commit-tree', tree, ...(parent === null ? [] : ['-p', parent])], {
      input: target.commit_message,
      env: identityVariables(target.author, target.committer),
    })
    const made = { old: current ?? zeroSha, sha: sha.trim(), tree }
    await refs.enforceSignatures(claims, `refs/heads/${target.target_branch}`, current, made.sha)
    if (await refs.compareAndSwap(ref, made.old, made.sha)) return made
    // A branch that can't be made because another is in its way stays that way.
    if ((await refs.commit(ref)) === current) throw refused(409, target, current, 'conflict', `branch "${target.target_branch}" is in the way of another, or locked`)
  }
  throw refused(409, target, await refs.commit(ref), 'conflict', `branch "${target.target_branch}" keeps moving`)
}

/** Where a branch starts that is not there yet: at its base, or at nothing in a repository without any. */
async function startOf(refs: Refs, target: Target): Promise<string | null> {
  if (target.base_branch !== undefined) {
    const base = await refs.commit(branchRef(target.base_branch, target.base_is_ephemeral, 'base_branch'))
    if (base === null) throw refused(404, target, null, 'not_found', `base_branch: "${target.base_branch}" was not found`)
    return base
  }
  if ((await refs.run(['for-each-ref', '--count=1', '--format=%(refname)'])) === '') return null
  throw refused(404, target, null, 'not_found', `target_branch: "${target.target_branch}" was not found; "base_branch" says where a new one starts`)
}

/** A refusal in the form that the SDKs read: what would have become of the branch is beside it. */
function refused(status: 400 | 404 | 409, target: Target, current: string | null, kind: string, message: string): ApiProblem {
  const { target_branch: branch } = target
  return new ApiProblem(status, message, {
    commit: null,
    result: { branch, target_branch: branch, old_sha: current ?? zeroSha, new_sha: '', success: false, status: kind, message },
  })
}

function answer(context: ApiContext, { target_branch: branch }: Target, { old, sha, tree }: Made, counts: Record<string, number>): Response {
  return context.json(
    {
      commit: { commit_sha: sha, tree_sha: tree, target_branch: branch, ...counts },
      result: { branch, target_branch: branch, old_sha: old, new_sha: sha, success: true, status: 'ok' },
    },
    201,
  )
}

/** Adds the contents of the files as objects. @returns their shas by content id; of a submodule, the commit that its content names. */
async function hashed(draft: Draft, files: readonly Entry[], contents: Contents): Promise<ReadonlyMap<string, string>> {
  const wanted = new Set(files.flatMap((file) => (file.operation === 'upsert' ? [file.content_id] : [])))
  for (const id of wanted) if (id === undefined || !contents.files.has(id)) throw new ApiProblem(400, `files: the content "${id ?? ''}" did not come`)
  const ids = [...contents.files.keys()]
  const extra = ids.find((id) => !wanted.has(id))
  if (extra !== undefined) throw new ApiProblem(400, `content_id: "${extra}" is no file's`)
  const shas = await draft.hash([...contents.files.values()])
  const found = new Map(ids.map((id, index) => [id, shas[index] ?? '']))
  for (const { mode, content_id: id = '', operation } of files) {
    if (mode !== '160000' || operation === 'delete') continue
    const commit = await draft.text(contents.files.get(id) ?? '')
    if (!/^[0-9a-f]{40}$/.test(commit)) throw new ApiProblem(400, `content_id: "${id}" is a submodule's, and no full sha`)
    found.set(id, commit)
  }
  return found
}

/** The files in their order; those between two deletions at once. */
async function apply(draft: Draft, files: readonly Entry[], shas: ReadonlyMap<string, string>): Promise<void> {
  let changes: { mode: string; sha: string; path: string }[] = []
  const write = async () => {
    try {
      await draft.set(changes)
    } catch (error) {
      const path = /(?:Invalid|Ignoring) path '?([^'\n]*)/i.exec(String(error))?.[1]
      if (path !== undefined) throw new ApiProblem(400, `files: "${path}" is not a path that git takes`)
      throw error
    }
    changes = []
  }
  for (const [index, file] of files.entries()) {
    const path = treePath(file.path, `files.${index}.path`)
    if (file.operation === 'upsert') {
      changes.push({ mode: file.mode, sha: shas.get(file.content_id ?? '') ?? '', path })
      continue
    }
    await write()
    const paths = await draft.pathsAt(path)
    if (paths.length === 0) throw new ApiProblem(404, `files.${index}.path: "${path}" is not there to be deleted`)
    changes = paths.map((found) => ({ mode: '0', sha: zeroSha, path: found }))
  }
  await write()
}

/** @throws ApiProblem 400 for what is no path in a tree, or one that would be git's own in somebody's work tree. */
function treePath(path: string, field: string): string {
  const trimmed = path.replace(/^\//, '')
  const parts = trimmed.split('/')
  const bad = trimmed.length > 4000 || /[\0]/.test(trimmed) || parts.some((part) => part === '' || part === '.' || part === '..' || part.toLowerCase() === '.git')
  if (bad) throw new ApiProblem(400, `${field}: "${trimmed.slice(0, 200)}" is not a path inside the repository`)
  return trimmed
}

async function applyDiff(git: GitRunner, repository: Repository, draft: Draft, diff: string, target: Target): Promise<void> {
  const outcome = await git(repository, ['apply', '--cached', '--binary', '--whitespace=nowarn', diff], { env: draft.variables })
  if (outcome.exitCode === 0) return
  if (outcome.timedOut) throw refused(400, target, null, 'timeout', 'the diff took too long')
  const [why = ''] = outcome.stderr.replaceAll(draft.folder, '').trim().split('\n')
  const kind = /No valid patches|unrecognized input|corrupt patch|patch fragment/.test(why) ? 'invalid' : 'conflict'
  throw refused(kind === 'invalid' ? 400 : 409, target, null, kind, `the diff can’t be applied: ${why.slice(0, 300)}`)
}
