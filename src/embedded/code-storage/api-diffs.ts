import type { Hono } from 'hono'
import { z } from 'zod'
import { parseChangedFiles } from '../../git/changed-files.js'
import { filePatches } from '../../git/hunks.js'
import { queryFlag, queryValues, readQuery, repositoryOf, repositoryPath, type ApiContext, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'
import { branchRef } from './refs.js'
import type { GitRunner, Repository } from './repositories.js'

const commitQuery = z.object({
  ref: z.string().min(1),
  ref_is_ephemeral: queryFlag,
  base_ref: z.string().min(1).optional(),
  base_is_ephemeral: queryFlag,
  git_apply_compatible: queryFlag,
})
const branchQuery = z.object({ branch: z.string(), base: z.string().optional(), ephemeral: queryFlag, ephemeral_base: queryFlag, git_apply_compatible: queryFlag })

/** Patches past this many bytes in one answer are left out, their files listed in `filtered_files`. */
const maxPatchBytes = 8 * 1024 * 1024
/** The patches of larger files, and of binary ones, are never given. */
const maxFilePatchBytes = 500_000
const emptyTree = '4b825dc642cb6eb9a060e54bf8d69288fbee4904'

/** Diffs of a commit against another, and of a branch against its base. */
export function diffRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.get('/repository/diff', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, commitQuery, { sha: 'ref', baseSha: 'base_ref', gitApplyCompatible: 'git_apply_compatible' })
    const sha = await refs.named(query.ref, query.ref_is_ephemeral, 'ref')
    const base = query.base_ref === undefined ? await refs.commit(`${sha}^`) : await refs.named(query.base_ref, query.base_is_ephemeral, 'base_ref')
    const diff = await diffOf(services.store.git, repository, { from: base ?? emptyTree, to: sha, paths: paths(context), blanks: query.git_apply_compatible })
    return context.json({ sha, ...(base === null ? {} : { base_sha: base }), ...diff })
  })

  api.get('/repository/branches/diff', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, branchQuery, { gitApplyCompatible: 'git_apply_compatible', base_is_ephemeral: 'ephemeral_base' })
    const baseName = query.base ?? (await refs.defaultBranch())
    const head = await refs.commit(branchRef(query.branch, query.ephemeral, 'branch'))
    if (head === null) throw new ApiProblem(404, `branch "${query.branch}" not found`)
    const base = await refs.named(baseName, query.ephemeral_base, 'base')
    const mergeBase = await refs.mergeBase(base, head)
    const diff = await diffOf(services.store.git, repository, { from: mergeBase ?? base, to: head, paths: paths(context), blanks: query.git_apply_compatible })
    return context.json({ branch: query.branch, base: baseName, ...(mergeBase === null ? {} : { merge_base_sha: mergeBase }), ...diff })
  })
}

function paths(context: ApiContext): string[] {
  const given = queryValues(context, 'path')
  return given.length === 0 ? [] : ['--', ...given.map((path) => `:(literal)${repositoryPath(path)}`)]
}

interface DiffRequest {
  readonly from: string
  readonly to: string
  readonly paths: readonly string[]
  /** Whether a change in the amount of white space is one: only then can the patches be applied. */
  readonly blanks: boolean
}

async function diffOf(git: GitRunner, repository: Repository, { from, to, paths: limits, blanks }: DiffRequest) {
  const common = ['-c', 'core.quotePath=false', 'diff-tree', '-r', '--find-renames', '--no-ext-diff', '--no-textconv', ...(blanks ? ['--full-index'] : ['--ignore-space-change'])]
  const summary = await git(repository, [...common, '--raw', '--numstat', '-z', from, to, ...limits], { maxOutputBytes: 64 * 1024 * 1024 })
  if (summary.exitCode !== 0) throw new Error(`git diff-tree failed: ${summary.stderr.trim()}`)
  const changed = parseChangedFiles(summary.stdout.toString('utf8')).filter((file) => file.contentChanged || file.modeChanged || file.state !== 'M')
  const patch = await git(repository, [...common, '--patch', from, to, ...limits], { maxOutputBytes: maxPatchBytes })
  if (patch.exitCode !== 0 && !patch.truncated) throw new Error(`git diff-tree failed: ${patch.stderr.trim()}`)
  const patches = filePatches(patch.stdout.toString('utf8'), changed, !patch.truncated)
  const described = changed.map((file, index) => {
    const raw = patches[index]?.patch ?? ''
    return { file, raw, bytes: Buffer.byteLength(raw), left: raw === '' || Buffer.byteLength(raw) > maxFilePatchBytes || /\nBinary files [^\n]* differ\n$/.test(raw) }
  })
  const shown = described.filter(({ left }) => !left)
  const filtered = described.filter(({ left }) => left)
  const additions = changed.reduce((sum, file) => sum + file.additions, 0)
  const deletions = changed.reduce((sum, file) => sum + file.deletions, 0)
  const named = ({ file, bytes }: (typeof described)[number]) => ({ path: file.path, state: file.state, old_path: file.oldPath, bytes })
  return {
    stats: { files: changed.length, additions, deletions, changes: additions + deletions },
    files: shown.map((entry) => ({ ...named(entry), raw: entry.raw, is_eof: true, additions: entry.file.additions, deletions: entry.file.deletions })),
    filtered_files: filtered.map((entry) => ({ ...named(entry), is_eof: true })),
  }
}
