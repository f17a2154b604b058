import { randomUUID } from 'node:crypto'
import type { Hono } from 'hono'
import { z } from 'zod'
import { filePath, optionalPageLimit, pageOf, queryFlag, readQuery, repositoryOf, repositoryPath, type ApiEnvironment, type ApiServices } from './request.js'
import { gitOutput } from './git-output.js'
import { byteRange, preconditionStatus } from './file-conditions.js'
import { ApiProblem } from './problem.js'
import type { Refs } from './refs.js'

const listQuery = (usual: number, most: number) =>
  z
    .object({
      ref: z.string().optional(),
      ephemeral: queryFlag,
      path: z.string().optional(),
      recursive: z.enum(['true', 'false']).default('true').transform((text) => text === 'true'),
      cursor: z.string().optional(),
      limit: optionalPageLimit(most),
    })
    // Without either of them the list is given whole.
    .transform((query) => ({ ...query, limit: query.limit ?? (query.cursor === undefined ? Number.MAX_SAFE_INTEGER : usual) }))
const filesQuery = listQuery(1000, 5000)
const metadataQuery = listQuery(200, 1000)
const fileQuery = z.object({ path: z.string().min(1), ref: z.string().optional(), ephemeral: queryFlag })

/** List files, with their last commits too; read one, streamed. */
export function fileRoutes(api: Hono<ApiEnvironment>, services: ApiServices): void {
  api.get('/repository/files', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, filesQuery)
    const sha = await refs.named(query.ref, query.ephemeral, 'ref')
    const { page, ...rest } = pageOf(await entriesAt(refs, sha, query), (entry) => entry.path, query)
    const entries = page.map(({ path, type, mode }) => ({ path, type, mode }))
    return context.json({ paths: entries.filter(({ type }) => type !== 'tree').map(({ path }) => path), ref: query.ref ?? (await refs.defaultBranch()), entries, ...rest })
  })

  api.get('/repository/files/metadata', async (context) => {
    const { refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, metadataQuery)
    const sha = await refs.named(query.ref, query.ephemeral, 'ref')
    const { page, ...rest } = pageOf(await entriesAt(refs, sha, { ...query, recursive: true }), (entry) => entry.path, query)
    const { files, commits } = await lastChanges(refs, sha, page)
    return context.json({ files, commits, ref: query.ref ?? (await refs.defaultBranch()), ...rest })
  })

  // Hono answers HEAD through GET and drops the body, which cancels the stream.
  api.get('/repository/file', async (context) => {
    const { repository, refs } = await repositoryOf(context, services, 'git:read')
    const query = readQuery(context, fileQuery)
    const sha = await refs.named(query.ref, query.ephemeral, 'ref')
    const path = filePath(query.path)
    const [line = ''] = (await refs.run(['--literal-pathspecs', 'ls-tree', '-z', '--full-tree', '--long', sha, '--', path])).split('\0')
    const { blob = '', size = '' } = /^\d+ blob (?<blob>[0-9a-f]{40}) +(?<size>\d+)\t/.exec(line)?.groups ?? {}
    if (blob === '') throw new ApiProblem(404, `path: "${path}" is not a file at ${query.ref ?? 'the default branch'}`)
    const [commit = '', time = ''] = (await refs.run(['log', '-1', '--format=%H%x00%ct', sha, '--', `:(literal)${path}`])).trim().split('\0')
    const lastModified = httpDate(Number(time))
    const headers = {
      'content-type': 'application/octet-stream',
      'accept-ranges': 'bytes',
      etag: `"${blob}"`,
      'x-blob-sha': blob,
      'x-last-commit-sha': commit,
      'last-modified': lastModified,
    }
    const asked = (name: string) => context.req.header(name)
    const status = preconditionStatus(asked, headers.etag, lastModified)
    if (status !== null) return context.body(null, status, headers)
    const range = byteRange(asked, headers.etag, lastModified, Number(size))
    if (range === 'unsatisfiable') return context.body(null, 416, { ...headers, 'content-range': `bytes */${size}` })
    const { start, length } = range ?? { start: 0, length: Number(size) }
    const given = { ...headers, 'content-length': String(length), ...(range === null ? {} : { 'content-range': `bytes ${start}-${start + length - 1}/${size}` }) }
    const code = range === null ? 200 : 206
    if (context.req.raw.method === 'HEAD' || length === 0) return context.body(null, code, given)
    const output = await gitOutput(repository, ['cat-file', 'blob', blob])
    if ('failed' in output) throw new Error(`git cat-file failed: ${output.failed}`)
    return context.body(range === null ? output.body : output.body.pipeThrough(part(start, length)), code, given)
  })
}

interface Entry {
  readonly path: string
  readonly type: string
  readonly mode: string
  readonly sizeBytes: number
}

async function entriesAt(refs: Refs, sha: string, query: { path?: string | undefined; recursive: boolean }): Promise<Entry[]> {
  const prefix = repositoryPath(query.path ?? '')
  const limits = prefix === '' ? [] : ['--', `${prefix}/`]
  const args = ['--literal-pathspecs', 'ls-tree', '-z', '--full-tree', '--long', ...(query.recursive ? ['-r'] : []), sha, ...limits]
  const output = await refs.run(args, { maxOutputBytes: 64 * 1024 * 1024 })
  return output.split('\0').filter((line) => line !== '').map(toEntry).sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** For each file the last commit that touched it, by one walk through the history that ends when all are found. */
async function lastChanges(refs: Refs, sha: string, entries: readonly Entry[]) {
  const open = new Set(entries.map((entry) => entry.path))
  const last = new Map<string, string>()
  const commits: Record<string, { author: string; date: string; message: string }> = {}
  // No name, message or path can hold this.
  const mark = randomUUID()
  const format = `${mark}%H%x00%an%x00%cI%x00%s%x00`
  for (let skip = 0, step = 200; open.size > 0; skip += step, step = Math.min(step * 2, 10_000)) {
    const args = ['log', '-z', '-m', '--first-parent', '--name-only', '--no-renames', `--format=${format}`, `--max-count=${step}`, `--skip=${skip}`, sha]
    const records = (await refs.run(args, { maxOutputBytes: 256 * 1024 * 1024 })).split(mark).slice(1)
    for (const record of records) {
      const [commit = '', author = '', date = '', message = '', ...paths] = record.split('\0')
      for (const path of paths.map((name) => name.replace(/^\n/, '')).filter((name) => open.delete(name))) {
        last.set(path, commit)
        commits[commit] = { author, date, message }
      }
    }
    if (records.length < step) break
  }
  const files = entries.map(({ path, mode, type, sizeBytes }) => ({ path, mode, size: sizeBytes, type, last_commit_sha: last.get(path) ?? sha }))
  return { files, commits }
}

/** A commit may claim any time: what no date can hold is as good as none. */
function httpDate(seconds: number): string {
  return new Date(Number.isFinite(seconds) && Math.abs(seconds) < 8.64e12 ? seconds * 1000 : 0).toUTCString()
}

/** Lets through `length` bytes from `start` on. */
function part(start: number, length: number): TransformStream<Uint8Array, Uint8Array> {
  let position = 0
  return new TransformStream({
    transform(chunk, controller) {
      const from = Math.max(0, start - position)
      const to = Math.min(chunk.length, start + length - position)
      position += chunk.length
      if (to > from) controller.enqueue(chunk.subarray(from, to))
      if (position >= start + length) controller.terminate()
    },
  })
}

function toEntry(line: string): Entry {
  const tab = line.indexOf('\t')
  const [mode = '', type = '', , size = ''] = line.slice(0, tab).split(/ +/)
  const kind = mode === '120000' ? 'symlink' : type === 'commit' ? 'submodule' : type
  return { path: line.slice(tab + 1), type: kind, mode, sizeBytes: Number(size) || 0 }
}
