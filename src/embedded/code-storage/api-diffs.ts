import type { Hono } from 'hono'
import { z } from 'zod'
import { parseChangedFiles } from '../../git/changed-files.js'
import { queryFlag, readQuery, repositoryOf, repositoryPath, type ApiContext, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'
import { branchRef, type Refs } from './refs.js'
import type { GitRunner, Repository } from './repositories.js'

const revision = z.string().regex(/^[0-9a-f]{4,40}$/, 'is not a sha')
const commitQuery = z.object({ sha: revision, baseSha: revision.optional() })
const branchQuery = z.object({ branch: z.string(), base: z.string().optional(), ephemeral: queryFlag, ephemeral_base: queryFlag })

/** Patches past this many bytes in one answer are left out, their files listed in `filtered_files`. */
const maxPatchBytes = 8 * 1024 * 1024
const maxFilePatchBytes = 1024 * 1024
const emptyTree = '4b825dc642cb6eb9a060e54bf8d69288fbee4904'

/** Diffs of a commit against another, and of a branch against its base. */
export function diffRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.get('/repos/diff', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, commitQuery)
    const sha = await known(refs, query.sha, 'sha')
    const base = query.baseSha === undefined ? await refs.commit(`${sha}^`) : await known(refs, query.baseSha, 'baseSha')
    const diff = await diffOf(services.store.git, repository, base ?? emptyTree, sha, paths(context))
    return context.json({ sha, ...(base === null ? {} : { base_sha: base }), ...diff })
  })

  api.get('/repos/branches/diff', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, branchQuery)
    const baseName = query.base ?? (await refs.defaultBranch())
    const head = await refs.commit(branchRef(query.branch, query.ephemeral, 'branch'))
    if (head === null) throw new ApiProblem(404, `branch "${query.branch}" not found`)
    const base = await refs.named(baseName, query.ephemeral_base, 'base')
    const mergeBase = await refs.mergeBase(base, head)
    const diff = await diffOf(services.store.git, repository, mergeBase ?? base, head, paths(context))
    return context.json({ branch: query.branch, base: baseName, ...(mergeBase === null ? {} : { merge_base_sha: mergeBase }), ...diff })
  })
}

async function known(refs: Refs, sha: string, field: string): Promise<string> {
  const found = await refs.commit(sha)
  if (found === null) throw new ApiProblem(404, `${field}: commit ${sha} not found`)
  return found
}

function paths(context: ApiContext): string[] {
  const given = context.req.queries('path') ?? []
  return given.length === 0 ? [] : ['--', ...given.map((path) => `:(literal)${repositoryPath(path)}`)]
}

async function diffOf(git: GitRunner, repository: Repository, from: string, to: string, limits: readonly string[]) {
  const common = ['-c', 'core.quotePath=false', 'diff-tree', '-r', '--find-renames', '--no-ext-diff', '--no-textconv']
  const summary = await git(repository, [...common, '--raw', '--numstat', '-z', from, to, ...limits], { maxOutputBytes: 64 * 1024 * 1024 })
  if (summary.exitCode !== 0) throw new Error(`git diff-tree failed: ${summary.stderr.trim()}`)
  const changed = parseChangedFiles(summary.stdout.toString('utf8'))
  const patch = await git(repository, [...common, '--patch', from, to, ...limits], { maxOutputBytes: maxPatchBytes })
  if (patch.exitCode !== 0 && !patch.truncated) throw new Error(`git diff-tree failed: ${patch.stderr.trim()}`)
  const patches = patch.stdout.toString('utf8').split(/^(?=diff --git )/m)
  // The last one may be cut off.
  if (patch.truncated) patches.pop()
  const described = changed.map((file) => {
    // A change of type is written as a deletion and a creation.
    const raw = patches.splice(0, file.state.startsWith('T') ? 2 : 1).join('')
    return { file, raw, bytes: Buffer.byteLength(raw) }
  })
  const shown = described.filter(({ raw, bytes }) => raw !== '' && bytes <= maxFilePatchBytes)
  const filtered = described.filter(({ raw, bytes }) => raw === '' || bytes > maxFilePatchBytes)
  const additions = changed.reduce((sum, file) => sum + file.additions, 0)
  const deletions = changed.reduce((sum, file) => sum + file.deletions, 0)
  const named = ({ file, bytes }: (typeof described)[number]) => ({ path: file.path, state: file.state, old_path: file.oldPath, bytes })
  return {
    stats: { files: changed.length, additions, deletions, changes: additions + deletions },
    files: shown.map((entry) => ({ ...named(entry), raw: entry.raw, is_eof: true, additions: entry.file.additions, deletions: entry.file.deletions })),
    filtered_files: filtered.map((entry) => ({ ...named(entry), is_eof: true })),
  }
}
