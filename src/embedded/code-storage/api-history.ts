import type { Hono } from 'hono'
import { z } from 'zod'
import { pageLimit, queryFlag, readQuery, repositoryOf, repositoryPath, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'

const listQuery = z.object({
  branch: z.string().optional(),
  ephemeral: queryFlag,
  path: z.string().optional(),
  limit: pageLimit,
  // Where the walk started and how many commits were given, so that pages fit together when the branch moves.
  cursor: z.string().regex(/^[0-9a-f]{40}:\d+$/, 'is not a cursor of this list').optional(),
})
const commitQuery = z.object({ sha: z.string().regex(/^[0-9a-f]{4,40}$/, 'is not a sha') })

const format = ['%H', '%P', '%B', '%an', '%ae', '%cn', '%ce', '%cI'].join('%x1f')

function toCommit(record: string) {
  const [sha = '', parents = '', message = '', authorName = '', authorEmail = '', committerName = '', committerEmail = '', date = ''] = record.split('\x1f')
  return {
    sha,
    parent_shas: parents.split(' ').filter((parent) => parent !== ''),
    message: message.trimEnd(),
    author_name: authorName,
    author_email: authorEmail,
    committer_name: committerName,
    committer_email: committerEmail,
    date: date.trim(),
  }
}

/** List commits, look one up. */
export function historyRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.get('/repos/commits', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, listQuery)
    const [cursorSha, cursorSkip] = query.cursor?.split(':') ?? []
    const start = cursorSha ?? (await refs.named(query.branch, query.ephemeral, 'branch'))
    const skip = Number(cursorSkip ?? 0)
    const paths = query.path === undefined ? [] : ['--', `:(literal)${repositoryPath(query.path)}`]
    const output = await refs.run(['log', '-z', `--format=${format}`, `--max-count=${query.limit + 1}`, `--skip=${skip}`, start, ...paths])
    const commits = output.split('\0').filter((record) => record !== '').map(toCommit)
    const hasMore = commits.length > query.limit
    return context.json({
      commits: commits.slice(0, query.limit),
      has_more: hasMore,
      next_cursor: hasMore ? `${start}:${skip + query.limit}` : null,
    })
  })

  api.get('/repos/commit', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, commitQuery)
    const sha = await refs.commit(query.sha)
    if (sha === null) throw new ApiProblem(404, `sha: commit ${query.sha} not found`)
    return context.json({ commit: toCommit(await refs.run(['show', '--no-patch', `--format=${format}`, sha])) })
  })
}
