import { setMaxListeners } from 'node:events'
import { chmod, copyFile, mkdir } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { getRequestListener } from '@hono/node-server'
import { decodeJwt } from 'jose'
import { z } from 'zod'
import { trustedKeys } from '../../git/signing.js'
import { InvalidInputError } from '../../job/errors.js'
import { codeStorageApi } from './api.js'
import { ownCertificate } from './certificate.js'
import { gitRunner, RepositoryStore } from './repositories.js'
import { lfsProblem, lfsRoute, serveLfs, type LfsRoute } from './lfs.js'
import { requireScope } from './request.js'
import { ApiProblem } from './problem.js'
import { gitBackend, gitRoute, type GitRoute, type WireBytes } from './smart-http.js'
import { TokenRefusedError, tokenVerifier } from './verify.js'

export interface CodeStorageServerOptions {
  /** Where the repositories are kept. Made when it is not there; nothing is removed from it on close. */
  readonly dataDir: string
  /** The organisation whose tokens are taken: their claim `iss`. */
  readonly org: string
  /** PEM texts of the keys that may sign tokens: EC P-256, RSA or Ed25519; a private key stands for its public one. */
  readonly publicKeys: readonly string[]
  /** Default `127.0.0.1`. Traffic is not encrypted: don't listen where others can hear it. */
  readonly host?: string | undefined
  /** Default 0: any free port. */
  readonly port?: number | undefined
  /**
   * Also serves https, on a port of its own (0: any free one), with a certificate that is made in `dataDir` and is good for
   * `localhost`, 127.0.0.1, ::1 and `host`. Clients need it: `GIT_SSL_CAINFO` for git, `NODE_EXTRA_CA_CERTS` for Node.
   */
  readonly https?: { readonly port?: number | undefined } | undefined
  /** Public keys that may sign commits for refs whose tokens say `verify-sig`: SSH keys as lines, OpenPGP keys armored. Default: none. */
  readonly signingKeys?: readonly string[] | undefined
  /** The largest LFS object that is taken, in bytes. Default 4 GiB. */
  readonly maxLfsObjectBytes?: number | undefined
  /** Gets a line for what the operator should know: that this is for one machine, and faults. Default: nothing. */
  readonly log?: ((message: string) => void) | undefined
  /** Milliseconds since 1970, for the expiry of tokens. Default `Date.now`. */
  readonly now?: (() => number) | undefined
}

const namedRepository = z.object({ repo: z.string() })

/** A fault put into the server for tests: `unavailable` answers 503, `refuse` cuts the connection, `forbid` answers 403 for one repository. */
export type Outage = { readonly kind: 'unavailable' | 'refuse'; readonly of: 'git' | 'api' | 'all' } | { readonly kind: 'forbid'; readonly repository: string }

export interface CodeStorageServer {
  /** Base of the git URLs, without a slash at the end: `http://127.0.0.1:8123`. */
  readonly url: string
  /** Base of the HTTP API, to which clients add `/api/repos…` or `/api/v1/…`; the same address. */
  readonly apiUrl: string
  /** The same by https, and the file with its certificate (PEM); null without it. */
  readonly https: { readonly url: string; readonly certificateFile: string } | null
  readonly org: string
  /** Starts an outage, or ends it with null. For tests. */
  setOutage(outage: Outage | null): void
  /** How many bytes of git traffic a repository has had, both namespaces together. For measurements. */
  wireBytes(repository: string): Readonly<WireBytes>
  /** Stops listening, ends every connection and every git process. The data stays. */
  close(): Promise<void>
}

/**
 * Starts a local Code Storage: smart HTTP through `git http-backend`, Git LFS beside it, and the HTTP API under `/api`, on one port.
 *
 * It is for development, demonstrations and tests on ONE machine: plain HTTP, repositories in a folder, no replication, no
 * quotas, no backups. In production use Code Storage itself.
 *
 * Needs git 2.38 or later on the PATH.
 * @throws InvalidInputError when a key can't be read or the port can't be had.
 */
export async function startCodeStorage(options: CodeStorageServerOptions): Promise<CodeStorageServer> {
  const log = options.log ?? (() => undefined)
  const verifier = tokenVerifier({ org: options.org, publicKeys: options.publicKeys, now: options.now ?? Date.now })
  const closing = new AbortController()
  // One listener for every git command that runs at the time.
  setMaxListeners(0, closing.signal)
  // Git runs in the repositories' own folders, where a relative path would mean another one.
  const dataDir = resolve(options.dataDir)
  const keys = await trustedKeys('local Code Storage', options.signingKeys ?? [], join(dataDir, 'signing-keys'))
  const store = new RepositoryStore(dataDir, gitRunner(closing.signal, 120_000, keys))
  await store.open()
  const backend = gitBackend({ hooksPath: await installHook(dataDir), keys, onError: log })
  const traffic = new Map<string, WireBytes>()
  let outage: Outage | null = null
  let url = ''
  const api = getRequestListener(codeStorageApi({ store, verifier, storageUrl: () => url, onError: log }).fetch, { overrideGlobalObjects: false })

  /** Lets a request to a repository in. @throws TokenRefusedError or ApiProblem when it is not to be. */
  const letIn = async (request: IncomingMessage, response: ServerResponse, route: GitRoute | LfsRoute) => {
    const token = basicPassword(request.headers.authorization)
    if (token === undefined) throw new TokenRefusedError('send the token as the password of Basic authentication')
    const claims = await verifier.verify(token)
    if (claims.repo !== route.repository) throw new ApiProblem(403, claims.repo === undefined ? 'the token names no repository' : 'the token is for another repository')
    if ('service' in route) requireScope(claims, route.service === 'git-receive-pack' ? 'git:write' : 'git:read')
    if (route.namespace === 'import' && 'service' in route && route.service === 'git-upload-pack') throw new ApiProblem(403, 'the import address is for pushes; fetch from the repository itself')
    const repository = await store.find(route.repository)
    if (repository === null) throw new ApiProblem(404, 'repository not found')
    if (request.headers.expect !== undefined) response.writeContinue()
    const bytes = traffic.get(route.repository) ?? { received: 0, sent: 0, requests: 0 }
    traffic.set(route.repository, bytes)
    bytes.requests += 1
    return { claims, repository, bytes }
  }

  const serveGit = async (request: IncomingMessage, response: ServerResponse, route: GitRoute) => {
    const { claims, repository, bytes } = await letIn(request, response, route)
    await backend.serve(request, response, { route, repository, policy: claims, bytes })
  }
  const serveObjects = async (request: IncomingMessage, response: ServerResponse, route: LfsRoute) => {
    await serveLfs(request, response, { route, ...(await letIn(request, response, route)), baseUrl: request.headers.host === undefined ? url : `${'encrypted' in request.socket ? 'https' : 'http'}://${request.headers.host}`, maxObjectBytes: options.maxLfsObjectBytes ?? 4 * 1024 ** 3 })
  }

  const handle = (request: IncomingMessage, response: ServerResponse) => {
    const target = request.url ?? '/'
    const git = gitRoute(request.method ?? 'GET', target)
    const lfs = git === undefined ? lfsRoute(request.method ?? 'GET', target) : undefined
    // A repository may be called "api/…" as well.
    const isApi = git === undefined && lfs === undefined && target.startsWith('/api/')
    if (outage?.kind === 'forbid') {
      if (repositoryAsked(request, isApi) === outage.repository) {
        answer(request, response, 403, 'access to this repository is disabled')
        return
      }
    } else if (outage !== null && (outage.of === 'all' || outage.of === (isApi ? 'api' : 'git'))) {
      if (outage.kind === 'refuse') request.socket.destroy()
      else answer(request, response, 503, 'service unavailable')
      return
    }
    if (isApi) {
      if (request.headers.expect !== undefined) response.writeContinue()
      void api(request, response)
      return
    }
    const failed = (of: string, tell: typeof answer) => (error: unknown) => {
      if (error instanceof ApiProblem) tell(request, response, error.status, error.message)
      else if (error instanceof TokenRefusedError) tell(request, response, 401, error.message)
      else {
        if (!response.destroyed) log(`${of}: ${String(error)}`)
        tell(request, response, 500, 'internal error')
      }
    }
    if (git !== undefined) {
      serveGit(request, response, git).catch(failed(`${git.service} of ${git.repository}`, answer))
      return
    }
    if (lfs !== undefined) serveObjects(request, response, lfs).catch(failed(`LFS of ${lfs.repository}`, lfsProblem))
    else answer(request, response, 404, 'not found')
  }

  const certificate = options.https === undefined ? null : await ownCertificate(dataDir, options.host)
  const servers = [createServer(handle), ...(certificate === null ? [] : [createTlsServer({ key: certificate.key, cert: certificate.certificate }, handle)])]
  const ports = [options.port, options.https?.port]
  for (const [index, server] of servers.entries()) {
    // Whoever asks before sending a pack is answered before it is sent.
    server.on('checkContinue', handle)
    // A large push over a slow line takes as long as it takes.
    server.requestTimeout = 0
    try {
      await listen(server, index === 0 ? 'port' : 'https.port', ports[index] ?? 0, options.host ?? '127.0.0.1')
    } catch (error) {
      for (const other of servers) other.close()
      throw error
    }
  }
  url = `http://${addressOf(servers[0])}`
  const https = certificate === null ? null : { url: `https://${addressOf(servers[1])}`, certificateFile: certificate.file }
  log(`local Code Storage at ${url}, data in ${options.dataDir}: plain HTTP, for development and tests on one machine only`)
  if (https !== null) log(`the same at ${https.url}, with the certificate ${https.certificateFile}: give it to git as GIT_SSL_CAINFO, to Node as NODE_EXTRA_CA_CERTS`)

  let closed: Promise<void> | undefined
  return {
    url,
    apiUrl: url,
    https,
    org: options.org,
    setOutage(next) {
      outage = next
    },
    wireBytes: (repository) => ({ ...(traffic.get(repository) ?? { received: 0, sent: 0, requests: 0 }) }),
    close() {
      closed ??= (async () => {
        const ended = servers.map((server) => new Promise<void>((resolve, reject) => server.close((error) => (error === undefined ? resolve() : reject(error)))))
        closing.abort(new Error('the local Code Storage is closing'))
        backend.close()
        for (const server of servers) server.closeAllConnections()
        await Promise.all(ended)
      })()
      return closed
    },
  }
}

async function listen(server: Server, field: string, port: number, host: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new InvalidInputError(`${field}: can't listen on ${host}:${port} (${error.message})`)))
    server.listen(port, host, resolve)
  })
}

function addressOf(server: Server | undefined): string {
  const address = server?.address() as AddressInfo
  return `${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`
}

/** Of the API it stands in the token, which is not checked here. */
function repositoryAsked(request: IncomingMessage, isApi: boolean): string | undefined {
  const [method, target] = [request.method ?? 'GET', request.url ?? '/']
  if (!isApi) return (gitRoute(method, target) ?? lfsRoute(method, target))?.repository
  const token = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? ''
  try {
    return namedRepository.safeParse(decodeJwt(token)).data?.repo
  } catch {
    // Not a token; it is refused as such later.
    return undefined
  }
}

async function installHook(dataDir: string): Promise<string> {
  const hooksPath = join(dataDir, 'hooks')
  await mkdir(hooksPath, { recursive: true })
  const hook = join(hooksPath, 'pre-receive')
  await copyFile(fileURLToPath(new URL('./pre-receive.sh', import.meta.url)), hook)
  await chmod(hook, 0o755)
  return hooksPath
}

function basicPassword(header: string | undefined): string | undefined {
  const match = /^Basic +(\S+)$/i.exec(header ?? '')
  if (match?.[1] === undefined) return undefined
  const text = Buffer.from(match[1], 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon === -1 ? undefined : text.slice(colon + 1)
}

/** Answers with a line of text, which git shows; a body that is still on its way is read and dropped. */
function answer(request: IncomingMessage, response: ServerResponse, status: number, message: string): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  request.resume()
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    ...(status === 401 ? { 'www-authenticate': 'Basic realm="Code Storage"' } : {}),
  })
  response.end(`${message}\n`)
}
