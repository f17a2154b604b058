import type { Hono } from 'hono'
import { z } from 'zod'
import { gitText, readBody, repositoryOf, type ApiEnvironment, type ApiServices } from './request.js'
import { globs } from './api-search.js'
import { Draft } from './drafts.js'
import { gitOutput } from './git-output.js'
import { ApiProblem } from './problem.js'
import { zeroSha, type Refs } from './refs.js'
import type { Repository } from './repositories.js'

const texts = z.array(gitText(500).min(1)).max(100).default([])
const archiveBody = z.object({
  ref: z.string().optional(),
  ephemeral: z.boolean().default(false),
  include_globs: texts,
  exclude_globs: texts,
  max_blob_size: z.number().int().min(0).optional(),
  archive: z.object({ prefix: gitText(200).regex(/^(?!\/)(?!(?:.*\/)?\.\.(?:\/|$))/, 'leads out of the archive').default('') }).prefault({}),
})

/** The files of a commit as a tar.gz, streamed. */
export function archiveRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.post('/repository/archive', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const body = await readBody(context, archiveBody, { rev: 'ref' })
    const sha = await refs.named(body.ref, body.ephemeral, 'ref')
    const tree = body.max_blob_size === undefined ? sha : await smallFiles(repository, refs, sha, body.max_blob_size)
    const paths = globs(body.include_globs, body.exclude_globs)
    const output = await gitOutput(repository, ['archive', '--format=tar.gz', `--prefix=${body.archive.prefix}`, tree, ...(paths.length === 0 ? [] : ['--', ...paths])])
    if ('failed' in output) {
      if (/did not match any files|pathspec/.test(output.failed)) throw new ApiProblem(404, 'include_globs: nothing matches')
      throw new Error(`git archive failed: ${output.failed}`)
    }
    return context.body(output.body, 200, { 'content-type': 'application/gzip', 'content-disposition': 'attachment; filename="archive.tar.gz"' })
  })
}

/** A tree without the files that are larger. */
async function smallFiles(repository: Repository, refs: Refs, sha: string, maxBytes: number): Promise<string> {
  const entries = (await refs.run(['ls-tree', '-r', '-z', '--long', '--full-tree', sha], { maxOutputBytes: 64 * 1024 * 1024 })).split('\0')
  const large = entries.flatMap((entry) => {
    const [, size = '', path = ''] = /^\d+ blob [0-9a-f]+ +(\d+)\t([^]*)$/.exec(entry) ?? []
    return path !== '' && Number(size) > maxBytes ? [{ mode: '0', sha: zeroSha, path }] : []
  })
  return Draft.use(repository, refs, async (draft) => {
    await draft.startFrom(sha)
    await draft.set(large)
    return draft.tree()
  })
}
