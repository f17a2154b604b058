import type { Hono } from 'hono'
import { z } from 'zod'
import { gitText, readBody, repositoryOf, type ApiEnvironment, type ApiServices } from './request.js'
import { globs } from './api-search.js'
import { Draft } from './drafts.js'
import { gitOutput } from './git-output.js'
import { ApiProblem } from './problem.js'
import type { Refs } from './refs.js'
import type { GitRunner, Repository } from './repositories.js'

const texts = z.array(gitText(500).min(1)).max(100).default([])
const archiveBody = z.object({
  ref: z.string().optional(),
  ephemeral: z.boolean().default(false),
  include_globs: texts,
  exclude_globs: texts,
  max_blob_size: z.number().int().min(0).optional(),
  archive: z.object({ prefix: gitText(200).regex(/^(?!\/)(?!(?:[^]*\/)?\.\.(?:\/|$))/, 'leads out of the archive').default('') }).prefault({}),
})

/** The files of a commit as a tar.gz, streamed. */
export function archiveRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.post('/repository/archive', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const body = await readBody(context, archiveBody, { rev: 'ref' })
    const sha = await refs.named(body.ref, body.ephemeral, 'ref')
    const paths = globs(body.include_globs, body.exclude_globs)
    const tree = paths.length === 0 && body.max_blob_size === undefined ? sha : await chosenFiles(services.store.git, repository, refs, { sha, paths, maxBytes: body.max_blob_size })
    const output = await gitOutput(repository, ['archive', '--format=tar.gz', `--prefix=${body.archive.prefix}`, tree])
    if ('failed' in output) throw new Error(`git archive failed: ${output.failed}`)
    return context.body(output.body, 200, { 'content-type': 'application/gzip', 'content-disposition': 'attachment; filename="archive.tar.gz"' })
  })
}

/** A tree of some of a commit's files. */
async function chosenFiles(
  git: GitRunner,
  repository: Repository,
  refs: Refs,
  { sha, paths, maxBytes }: { sha: string; paths: readonly string[]; maxBytes: number | undefined },
): Promise<string> {
  return Draft.use(repository, refs, async (draft) => {
    await draft.startFrom(sha)
    const listed = await git(repository, ['ls-files', '-z', '--stage', '--', ...paths], { env: draft.variables, maxOutputBytes: 64 * 1024 * 1024 })
    if (listed.exitCode !== 0) throw new ApiProblem(400, `include_globs: ${listed.stderr.trim().split('\n')[0]?.slice(0, 200) ?? ''}`)
    const entries = listed.stdout.toString('utf8').split('\0').flatMap((line) => {
      const [, mode = '', oid = '', path = ''] = /^(\d+) ([0-9a-f]+) 0\t([^]+)$/.exec(line) ?? []
      return path === '' ? [] : [{ mode, sha: oid, path }]
    })
    const large = maxBytes === undefined ? new Set<string>() : await largerThan(refs, sha, maxBytes)
    const chosen = entries.filter(({ path }) => !large.has(path))
    if (chosen.length === 0) throw new ApiProblem(404, 'include_globs: nothing is left of the commit')
    await draft.startFrom(null)
    await draft.set(chosen)
    return draft.tree()
  })
}

/** The paths of files that are larger. */
async function largerThan(refs: Refs, sha: string, bytes: number): Promise<Set<string>> {
  const entries = (await refs.run(['ls-tree', '-r', '-z', '--long', '--full-tree', sha], { maxOutputBytes: 64 * 1024 * 1024 })).split('\0')
  return new Set(
    entries.flatMap((entry) => {
      const [, size = '', path = ''] = /^\d+ blob [0-9a-f]+ +(\d+)\t([^]*)$/.exec(entry) ?? []
      return Number(size) > bytes ? [path] : []
    }),
  )
}
