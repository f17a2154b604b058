import { spawn } from 'node:child_process'
import { Readable } from 'node:stream'
import type { Hono } from 'hono'
import { z } from 'zod'
import { gitEnvironment } from '../../git/git-process.js'
import { pageOf, queryFlag, readQuery, repositoryOf, repositoryPath, type ApiEnvironment, type ApiServices } from './request.js'
import { ApiProblem } from './problem.js'
import type { Repository } from './repositories.js'

const listQuery = z.object({
  ref: z.string().optional(),
  ephemeral: queryFlag,
  path: z.string().optional(),
  recursive: z.enum(['true', 'false']).default('true').transform((text) => text === 'true'),
  cursor: z.string().optional(),
  limit: z.coerce.number().int().min(1).optional(),
})
const fileQuery = z.object({ path: z.string().min(1), ref: z.string().optional(), ephemeral: queryFlag })

/** List files; read one, streamed. */
export function fileRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.get('/repos/files', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, listQuery)
    const sha = await refs.named(query.ref, query.ephemeral, 'ref')
    const prefix = repositoryPath(query.path ?? '')
    const limits = prefix === '' ? [] : ['--', `${prefix}/`]
    const output = await refs.run(['--literal-pathspecs', 'ls-tree', '-z', '--full-tree', ...(query.recursive ? ['-r'] : []), sha, ...limits], { maxOutputBytes: 64 * 1024 * 1024 })
    const entries = output.split('\0').filter((line) => line !== '').map(toEntry).sort((a, b) => (a.path < b.path ? -1 : 1))
    const { page, ...rest } = pageOf(entries, (entry) => entry.path, { cursor: query.cursor, limit: query.limit ?? entries.length + 1 })
    return context.json({ paths: page.map((entry) => entry.path), ref: query.ref ?? (await refs.defaultBranch()), entries: page, ...rest })
  })

  // Hono answers HEAD through GET and drops the body, which cancels the stream.
  api.get('/repos/file', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, fileQuery)
    const sha = await refs.named(query.ref, query.ephemeral, 'ref')
    const path = repositoryPath(query.path)
    const [line = ''] = (await refs.run(['--literal-pathspecs', 'ls-tree', '-z', '--full-tree', '--long', sha, '--', path])).split('\0')
    const match = /^\d+ blob (?<blob>[0-9a-f]{40}) +(?<size>\d+)\t/.exec(line)
    if (match?.groups === undefined) throw new ApiProblem(404, `path: "${path}" is not a file at ${query.ref ?? 'the default branch'}`)
    const { blob = '', size = '' } = match.groups
    const lastCommit = (await refs.run(['log', '-1', '--format=%H%x00%cD', sha, '--', `:(literal)${path}`])).trim().split('\0')
    const headers = {
      'content-type': 'application/octet-stream',
      'content-length': size,
      etag: `"${blob}"`,
      'x-blob-sha': blob,
      'x-last-commit-sha': lastCommit[0] ?? '',
      ...(lastCommit[1] === undefined ? {} : { 'last-modified': new Date(lastCommit[1]).toUTCString() }),
    }
    if (context.req.header('if-none-match') === headers.etag) return context.body(null, 304, { etag: headers.etag })
    if (context.req.raw.method === 'HEAD') return context.body(null, 200, headers)
    return context.body(blobStream(repository, blob), 200, headers)
  })
}

function toEntry(line: string): { path: string; type: string; mode: string } {
  const tab = line.indexOf('\t')
  const [mode = '', type = ''] = line.slice(0, tab).split(' ')
  const kind = mode === '120000' ? 'symlink' : type === 'commit' ? 'submodule' : type
  return { path: line.slice(tab + 1), type: kind, mode }
}

function blobStream(repository: Repository, blob: string): ReadableStream<Uint8Array> {
  const child = spawn('git', ['cat-file', 'blob', blob], {
    cwd: repository.path,
    env: { ...gitEnvironment(undefined, { 'safe.directory': '*' }), GIT_DIR: repository.path },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  child.once('error', (error) => child.stdout.destroy(error))
  // A client that went away cancels the stream; git then ends at its next write.
  return Readable.toWeb(child.stdout) as ReadableStream<Uint8Array>
}
