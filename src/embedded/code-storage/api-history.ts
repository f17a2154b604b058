import type { Hono } from 'hono'
import { z } from 'zod'
import { pageLimit, queryFlag, readQuery, repositoryOf, repositoryPath, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'

const listQuery = z.object({
  ref: z.string().optional(),
  ephemeral: queryFlag,
  path: z.string().optional(),
  limit: pageLimit(),
  // Where the walk started and how many commits were given, so that pages fit together when the branch moves.
  cursor: z.string().regex(/^[0-9a-f]{40}:\d{1,9}$/, 'is not a cursor of this list').optional(),
})
const commitQuery = z.object({ ref: z.string().min(1), ephemeral: queryFlag })

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

/** List commits, look one up with its signature. */
export function historyRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.get('/repository/commits', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, listQuery, { branch: 'ref' })
    const [cursorSha, cursorSkip] = query.cursor?.split(':') ?? []
    const start = cursorSha === undefined ? await refs.named(query.ref, query.ephemeral, 'ref') : await refs.commit(cursorSha)
    if (start === null) throw new ApiProblem(400, 'cursor: is not one of this list')
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

  api.get('/repository/commit', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, commitQuery, { sha: 'ref' })
    const sha = await refs.named(query.ref, query.ephemeral, 'ref')
    const commit = toCommit(await refs.run(['show', '--no-patch', `--format=${format}`, sha]))
    return context.json({ commit: { ...commit, ...signatureOf(await refs.run(['cat-file', 'commit', sha])) } })
  })
}

/** A commit's signature and what it signs: the commit without it. Nothing for one that is not signed. */
export function signatureOf(raw: string): { signature?: string; payload?: string } {
  const end = raw.indexOf('\n\n')
  const header = raw.slice(0, end + 1)
  const found = /(?<=^|\n)gpgsig (?<text>[^\n]*\n(?: [^\n]*\n)*)/.exec(header)
  if (found?.groups?.['text'] === undefined) return {}
  const signature = found.groups['text'].replaceAll('\n ', '\n')
  return { signature, payload: header.slice(0, found.index) + header.slice(found.index + found[0].length) + raw.slice(end + 1) }
}
