import { spawn } from 'node:child_process'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { gitEnvironment, killGroup } from '../../git/git-process.js'
import type { KeySettings } from '../../git/signing.js'
import { hookPolicy, type PolicyClaims } from './policy.js'
import type { Repository } from './repositories.js'

/** What a request to `<id>.git/…` or `<id>+ephemeral.git/…` asks for. */
export interface GitRoute {
  readonly repository: string
  readonly namespace: 'normal' | 'ephemeral' | 'import'
  readonly service: 'git-upload-pack' | 'git-receive-pack'
  /** The path below the repository, as `git http-backend` knows it. */
  readonly path: string
}

/** Reads a smart-HTTP path; undefined when it is not one of the three that git uses. */
export function gitRoute(method: string, url: string): GitRoute | undefined {
  const [rawPath = '', query = ''] = url.split('?', 2)
  // The first value counts, and git is told no other: it would take the last one, for which the token was not looked at.
  let path: string
  try {
    path = decodeURIComponent(rawPath)
  } catch {
    return undefined
  }
  const match = /^\/(?<id>[^+]+?)(?:\+(?<namespace>ephemeral|import))?\.git(?<rest>\/info\/refs|\/git-upload-pack|\/git-receive-pack)$/.exec(path)
  if (match?.groups === undefined) return undefined
  const { id = '', namespace = 'normal', rest = '' } = match.groups
  const service = rest === '/info/refs' ? new URLSearchParams(query).get('service') : rest.slice(1)
  if (service !== 'git-upload-pack' && service !== 'git-receive-pack') return undefined
  if (method !== (rest === '/info/refs' ? 'GET' : 'POST')) return undefined
  return { repository: id, namespace: namespace as GitRoute['namespace'], service, path: rest }
}

/** Bodies that passed, HTTP headers not counted. */
export interface WireBytes {
  /** From clients: requests and pushed packs. */
  received: number
  /** To clients: refs and fetched packs. */
  sent: number
  requests: number
}

export interface GitBackend {
  /** Runs one request that was let in. Resolves when it is over, however it ended. */
  serve(request: IncomingMessage, response: ServerResponse, job: BackendJob): Promise<void>
  /** Ends every git process that still runs. */
  close(): void
}

interface BackendJob {
  readonly route: GitRoute
  readonly repository: Repository
  readonly policy: PolicyClaims
  readonly bytes: WireBytes
}

const backendConfig = {
  'http.receivepack': 'true',
  'http.uploadpack': 'true',
  'http.getanyfile': 'false',
  // What no honest git makes is refused before it can reach somebody's clone; what only old tools did wrong is taken.
  'receive.fsckObjects': 'true',
  'receive.fsck.zeroPaddedFilemode': 'warn',
  'receive.fsck.missingSpaceBeforeDate': 'warn',
  'receive.fsck.badTimezone': 'warn',
  'uploadpack.allowAnySHA1InWant': 'true',
  'uploadpack.allowFilter': 'true',
  // Seen without the namespace, its refs would be ordinary ones.
  'transfer.hideRefs': 'refs/namespaces',
  // Notes in the making.
  'uploadpack.hideRefs': 'refs/notes/code-storage-draft',
  'receive.hideRefs': 'refs/notes/code-storage-draft',
  // Larger files are neither held in memory nor compared with each other for deltas, which takes minutes for a few of them.
  'core.bigFileThreshold': '4m',
  // Kept in the request's own process group, so that closing the server ends it too.
  'gc.autoDetach': 'false',
  'gc.auto': '6700',
  'maintenance.auto': 'true',
  'safe.directory': '*',
  'core.filesRefLockTimeout': '2000',
}

/**
 * Serves smart HTTP through `git http-backend`. Bodies are piped both ways with backpressure and never held here.
 * @param options `hooksPath`: the folder that holds the pre-receive hook; `keys`: those that may sign commits.
 */
export function gitBackend(options: { hooksPath: string; keys: KeySettings; onError: (message: string) => void }): GitBackend {
  const running = new Set<number>()
  return {
    async serve(request, response, { route, repository, policy, bytes }) {
      const child = spawn('git', ['http-backend'], {
        env: {
          ...gitEnvironment(undefined, { ...backendConfig, 'core.hooksPath': options.hooksPath, ...options.keys.config }),
          ...options.keys.env,
          ...cgiVariables(request, route),
          GIT_PROJECT_ROOT: repository.path,
          CODE_STORAGE_POLICY: hookPolicy(policy),
          // What comes by the import address is for the normal namespace.
          ...(route.namespace === 'ephemeral' ? { GIT_NAMESPACE: 'ephemeral' } : {}),
        },
        stdio: ['pipe', 'pipe', 'pipe'],
        detached: true,
      })
      const { pid } = child
      if (pid !== undefined) running.add(pid)
      const ended = new Promise<void>((resolve) => {
        child.once('error', (error) => {
          options.onError(`git http-backend could not be started: ${error.message}`)
          if (!response.headersSent) response.writeHead(500).end()
          resolve()
        })
        child.once('close', () => resolve())
      })
      let stderr = ''
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        if (stderr.length < 4096) stderr += text
      })
      request.on('data', (chunk: Buffer) => (bytes.received += chunk.length))
      // git ends early when it refuses a push: the rest of the body is read and dropped, so that the client reads the answer.
      child.stdin.on('error', () => request.unpipe(child.stdin).resume())
      request.pipe(child.stdin)
      request.once('aborted', () => child.stdin.destroy())
      response.once('close', () => {
        if (!response.writableFinished) killGroup(pid, 'SIGTERM')
      })
      try {
        await pipeline(child.stdout, cgiResponse(response, bytes), response)
      } catch (error) {
        if (!response.headersSent && !response.destroyed) response.writeHead(500).end()
        else response.destroy()
        killGroup(pid, 'SIGTERM')
        if (!isAbort(error)) options.onError(`git http-backend for ${repository.id}: ${String(error)} ${stderr.trim()}`)
      }
      await ended
      if (pid !== undefined) running.delete(pid)
    },
    close() {
      for (const pid of running) killGroup(pid, 'SIGKILL')
    },
  }
}

function cgiVariables(request: IncomingMessage, route: GitRoute): Record<string, string> {
  const header = (name: string) => {
    const value = request.headers[name]
    return typeof value === 'string' ? value : undefined
  }
  const variables: Record<string, string | undefined> = {
    REQUEST_METHOD: request.method ?? 'GET',
    PATH_INFO: route.path,
    QUERY_STRING: route.path === '/info/refs' ? `service=${route.service}` : '',
    CONTENT_TYPE: header('content-type'),
    CONTENT_LENGTH: header('content-length'),
    HTTP_CONTENT_ENCODING: header('content-encoding'),
    GIT_PROTOCOL: header('git-protocol'),
    GIT_HTTP_EXPORT_ALL: '1',
    REMOTE_USER: 't',
    REMOTE_ADDR: request.socket.remoteAddress ?? '',
  }
  return Object.fromEntries(Object.entries(variables).filter((entry): entry is [string, string] => entry[1] !== undefined))
}

/** Takes the header block off a CGI program's output and passes the rest on. */
function cgiResponse(response: ServerResponse, bytes: WireBytes): Transform {
  let head: Buffer | null = Buffer.alloc(0)
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (head === null) {
        bytes.sent += chunk.length
        done(null, chunk)
        return
      }
      head = Buffer.concat([head, chunk])
      const end = head.indexOf('\r\n\r\n')
      if (end === -1) {
        done(head.length > 64 * 1024 ? new Error('git http-backend sent no header block') : null)
        return
      }
      let status = 200
      const headers: Record<string, string> = {}
      for (const line of head.subarray(0, end).toString('latin1').split('\r\n')) {
        const colon = line.indexOf(':')
        const name = line.slice(0, colon).trim()
        const value = line.slice(colon + 1).trim()
        if (name.toLowerCase() === 'status') status = Number.parseInt(value, 10)
        else headers[name] = value
      }
      response.writeHead(status, headers)
      const rest = head.subarray(end + 4)
      head = null
      bytes.sent += rest.length
      done(null, rest.length > 0 ? rest : undefined)
    },
    flush(done) {
      done(head === null ? null : new Error('git http-backend ended without an answer'))
    },
  })
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ERR_STREAM_PREMATURE_CLOSE' || error.code === 'ECONNRESET')
}
