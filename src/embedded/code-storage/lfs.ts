import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import { isOid, LfsStore } from './lfs-store.js'
import { refusal, rulesOf } from './policy.js'
import { ApiProblem } from './problem.js'
import type { Repository } from './repositories.js'
import { requireScope } from './request.js'
import type { WireBytes } from './smart-http.js'
import type { TokenClaims } from './verify.js'

/**
 * Git LFS: the batch API with the basic transfer, below `<id>.git/info/lfs` and `<id>+ephemeral.git/info/lfs`. A token that can read
 * the repository can download, one that can push to it can upload. File locks are refused.
 *
 * No answer repeats a token: a client uses its own for each request, so that one which is added on the way stays outside.
 */

/** What a request below `info/lfs` asks for. */
export interface LfsRoute {
  readonly repository: string
  readonly namespace: 'normal' | 'ephemeral' | 'import'
  /** Base of the repository's LFS paths. */
  readonly path: string
  readonly action: { readonly name: 'batch' | 'locks' } | { readonly name: 'download' | 'upload' | 'verify'; readonly oid: string }
}

/** Reads a path of LFS; undefined when it is none. */
export function lfsRoute(method: string, url: string): LfsRoute | undefined {
  const path = decoded(url.split('?', 1)[0] ?? '')
  const match = /^(?<path>\/(?<id>[^+]+?)(?:\+(?<namespace>ephemeral|import))?\.git\/info\/lfs)\/(?<rest>.*)$/.exec(path ?? '')
  if (match?.groups === undefined) return undefined
  const { path: base = '', id: repository = '', namespace = 'normal', rest = '' } = match.groups
  const action = actionOf(method, rest)
  return action === undefined ? undefined : { repository, namespace: namespace as LfsRoute['namespace'], path: base, action }
}

function actionOf(method: string, rest: string): LfsRoute['action'] | undefined {
  if (method === 'POST' && rest === 'objects/batch') return { name: 'batch' }
  if (rest === 'locks' || rest.startsWith('locks/')) return { name: 'locks' }
  const [, oid = '', verify] = /^objects\/([0-9a-f]{64})(\/verify)?$/.exec(rest) ?? []
  if (oid === '') return undefined
  if (verify !== undefined) return method === 'POST' ? { name: 'verify', oid } : undefined
  if (method === 'GET' || method === 'HEAD') return { name: 'download', oid }
  return method === 'PUT' ? { name: 'upload', oid } : undefined
}

function decoded(path: string): string | undefined {
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined
  }
}

const maxBodyBytes = 1024 * 1024
const maxObjects = 1000

const sized = z.object({ oid: z.string(), size: z.int().min(0) })
const batchBody = z.object({
  operation: z.enum(['download', 'upload']),
  transfers: z.array(z.string()).default(['basic']),
  ref: z.object({ name: z.string() }).nullish(),
  objects: z.array(sized).max(maxObjects, `must be at most ${maxObjects} objects`),
  hash_algo: z.string().default('sha256'),
})

export interface LfsJob {
  readonly route: LfsRoute
  readonly repository: Repository
  readonly claims: TokenClaims
  /** Base of the server's URLs. */
  readonly baseUrl: string
  readonly maxObjectBytes: number
  readonly bytes: WireBytes
}

/** Answers a request. @throws ApiProblem for what is refused; nothing was answered then. */
export async function serveLfs(request: IncomingMessage, response: ServerResponse, job: LfsJob): Promise<void> {
  const { route, repository, claims } = job
  const store = new LfsStore(repository, job.maxObjectBytes)
  const received = (bytes: number) => (job.bytes.received += bytes)
  const { action } = route
  switch (action.name) {
    case 'locks':
      requireScope(claims, 'git:read')
      throw new ApiProblem(501, 'the local Code Storage has no file locks; turn them off with "git config lfs.locksverify false"')
    case 'batch':
      answer(response, 200, await batch(await body(request, batchBody, received), store, job))
      return
    case 'download':
      requireScope(claims, 'git:read')
      await download(request, response, store, action.oid, job.bytes)
      return
    case 'upload':
      requireUpload(claims, undefined)
      await upload(request, response, store, action.oid, job.maxObjectBytes, received)
      return
    case 'verify': {
      requireUpload(claims, undefined)
      const { oid, size } = await body(request, sized, received)
      const held = oid === action.oid ? await store.size(oid) : null
      if (held !== size) throw new ApiProblem(404, held === null ? 'the object is not here' : `the object is ${held} bytes long, not ${size}`)
      answer(response, 200, {})
    }
  }
}

/** @throws ApiProblem 403 when the token can't push: to this ref, or when the client names none, to any. */
function requireUpload(claims: TokenClaims, ref: string | undefined): void {
  requireScope(claims, 'git:write')
  if (ref !== undefined && ref !== '') {
    const refused = refusal(claims, { ref, fastForward: true })
    if (refused !== undefined) throw new ApiProblem(403, refused)
    return
  }
  const rules = rulesOf(claims)
  const forbidden = rules.some(([pattern]) => pattern === '*') && rules.every(([, operations]) => operations.includes('no-push'))
  if (forbidden) throw new ApiProblem(403, 'denied by policy: the token pushes to no ref')
}

async function batch({ operation, transfers, ref, objects, hash_algo: algorithm }: z.output<typeof batchBody>, store: LfsStore, job: LfsJob): Promise<object> {
  if (operation === 'upload') requireUpload(job.claims, ref?.name)
  else requireScope(job.claims, 'git:read')
  if (algorithm !== 'sha256') throw new ApiProblem(409, `hash_algo: "${algorithm}" is not known; objects are named by their sha256`)
  if (!transfers.includes('basic')) throw new ApiProblem(422, 'transfers: only "basic" is known')
  const answers = await Promise.all(
    objects.map(async ({ oid, size }) => {
      const problem = (code: number, message: string) => ({ oid, size, error: { code, message } })
      if (!isOid(oid)) return problem(422, 'oid: must be a SHA-256, 64 hexadecimal digits')
      if (size > job.maxObjectBytes) return problem(422, `size: the local Code Storage takes no object of more than ${job.maxObjectBytes} bytes`)
      const held = await store.size(oid)
      if (held !== null && held !== size) return problem(422, `size: the object is ${held} bytes long, not ${size}`)
      const href = `${job.baseUrl}${encodeURI(job.route.path)}/objects/${oid}`
      if (operation === 'download') return held === null ? problem(404, 'the object is not here') : { oid, size, actions: { download: { href } } }
      return held === null ? { oid, size, actions: { upload: { href }, verify: { href: `${href}/verify` } } } : { oid, size }
    }),
  )
  return { transfer: 'basic', objects: answers, hash_algo: 'sha256' }
}

async function download(request: IncomingMessage, response: ServerResponse, store: LfsStore, oid: string, bytes: WireBytes): Promise<void> {
  const size = await store.size(oid)
  if (size === null) throw new ApiProblem(404, 'the object is not here')
  // What a client asks for that goes on with a part.
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
  const partial = start > 0 && start < size
  response.writeHead(partial ? 206 : 200, {
    'content-type': 'application/octet-stream',
    'content-length': partial ? size - start : size,
    ...(partial ? { 'content-range': `bytes ${start}-${size - 1}/${size}` } : {}),
  })
  if (request.method === 'HEAD') {
    response.end()
    return
  }
  const content = store.read(oid, partial ? start : 0)
  content.on('data', (chunk: Buffer) => (bytes.sent += chunk.length))
  await pipeline(content, response)
}

async function upload(request: IncomingMessage, response: ServerResponse, store: LfsStore, oid: string, maxObjectBytes: number, received: (bytes: number) => void): Promise<void> {
  const announced = Number(request.headers['content-length'] ?? 0)
  if (announced > maxObjectBytes) throw new ApiProblem(413, `the object is ${announced} bytes, and the local Code Storage takes no more than ${maxObjectBytes}`)
  await store.write(oid, request, received)
  response.writeHead(200).end()
}

async function body<Schema extends z.ZodType>(request: IncomingMessage, schema: Schema, received: (bytes: number) => void): Promise<z.output<Schema>> {
  const pieces: Buffer[] = []
  let length = 0
  for await (const piece of request) {
    length += (piece as Buffer).length
    received((piece as Buffer).length)
    if (length > maxBodyBytes) throw new ApiProblem(413, `the request is longer than ${maxBodyBytes} bytes; ask for fewer objects at once`)
    pieces.push(piece as Buffer)
  }
  let value: unknown
  try {
    value = JSON.parse(Buffer.concat(pieces).toString('utf8'))
  } catch {
    throw new ApiProblem(422, 'the body is not JSON')
  }
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new ApiProblem(422, `${issue?.path.join('.') ?? 'request'}: ${issue?.message ?? 'is not valid'}`)
}

/** Answers in the form that LFS clients read. */
function answer(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, {
    'content-type': 'application/vnd.git-lfs+json',
    ...(status === 401 ? { 'www-authenticate': 'Basic realm="Code Storage"', 'lfs-authenticate': 'Basic realm="Code Storage"' } : {}),
  })
  response.end(JSON.stringify(value))
}

/** Answers with a sentence, which the client shows; a body that is still on its way is read and dropped. */
export function lfsProblem(request: IncomingMessage, response: ServerResponse, status: number, message: string): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  request.resume()
  answer(response, status, { message })
}
