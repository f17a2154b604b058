import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { bitbucketRoutes } from './bitbucket.js'
import { githubRoutes } from './github.js'
import { gitlabRoutes } from './gitlab.js'

/**
 * The pull-request part of a git host's API, as GitHub, GitLab and Bitbucket Cloud document theirs: paths, request bodies (what their schemas do not
 * know or lack is refused), answers, statuses and the words of refusals. One open request for two branches at most.
 */
export const forgeKinds = ['github', 'gitlab', 'bitbucket'] as const
export type ForgeKind = (typeof forgeKinds)[number]

export interface ForgeServer {
  readonly kind: ForgeKind
  /** Base of the API. */
  readonly url: string
  readonly token: string
  /** Of the one repository, `acme/web`. */
  readonly state: ForgeState
  /** Each call, as "METHOD path". */
  readonly calls: readonly string[]
  /**
   * Asked for each call before it is done, and after: answers a status with headers in place of what is right, `drop` breaks the connection off, `hang` never
   * answers. After it was done, the state has changed all the same.
   */
  fault: ((call: { readonly method: string; readonly path: string; readonly when: 'before' | 'after' }) => Fault | undefined) | undefined
  close(): Promise<void>
}

export type Fault = 'drop' | 'hang' | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: unknown }

export interface ForgeState {
  defaultBranch: string
  readonly branches: Set<string>
  /** Pairs "head base" that do not differ. */
  readonly same: Set<string>
  readonly users: Map<string, number>
  /** Whether the repository's plan has no drafts. */
  noDrafts: boolean
  readonly requests: StoredRequest[]
}

export interface StoredRequest {
  readonly number: number
  readonly head: string
  base: string
  title: string
  body: string
  draft: boolean
  state: 'open' | 'closed' | 'merged'
  labels: string[]
  reviewers: string[]
}

export interface ForgeRequest {
  readonly method: string
  /** Decoded, below the repository; undefined when it is about another repository. */
  readonly query: URLSearchParams
  readonly body: unknown
}

export interface ForgeResponse {
  readonly status: number
  readonly body: unknown
}

/** Answers a call below the API's base; undefined when there is no such path. */
export type ForgeRoutes = (state: ForgeState, path: readonly string[], request: ForgeRequest, origin: string) => ForgeResponse | undefined

const routes: Readonly<Record<ForgeKind, ForgeRoutes>> = { github: githubRoutes, gitlab: gitlabRoutes, bitbucket: bitbucketRoutes }

/** @param token what opens it. */
export async function startForgeServer(kind: ForgeKind, token = `${kind}-token-of-nobody`): Promise<ForgeServer> {
  const calls: string[] = []
  const state: ForgeState = { defaultBranch: 'main', branches: new Set(['main']), same: new Set(), users: new Map([['ada', 7], ['grace', 8]]), noDrafts: false, requests: [] }

  const send = (response: ServerResponse, status: number, body: unknown, headers: Readonly<Record<string, string>> = {}) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(JSON.stringify(body))
  }

  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '/', server.url)
    const path = url.pathname.split('/').slice(1).map(decodeURIComponent)
    const method = request.method ?? 'GET'
    calls.push(`${method} ${path.join('/')}`)
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const faulty = (when: 'before' | 'after') => {
      const fault = server.fault?.({ method, path: path.join('/'), when })
      if (fault === undefined) return false
      if (fault === 'drop') request.socket.destroy()
      else if (fault !== 'hang') send(response, fault.status, fault.body ?? { message: 'no' }, fault.headers)
      return true
    }
    if (faulty('before')) return
    if (request.headers.authorization !== `Bearer ${token}` && request.headers.authorization !== `Basic ${Buffer.from(`someone:${token}`).toString('base64')}`) {
      send(response, 401, { message: kind === 'gitlab' ? '401 Unauthorized' : 'Bad credentials' })
      return
    }
    const body: unknown = parts.length === 0 ? undefined : JSON.parse(Buffer.concat(parts).toString('utf8'))
    const found = routes[kind](state, path, { method, query: url.searchParams, body }, server.url)
    if (faulty('after')) return
    send(response, found?.status ?? 404, found === undefined ? { message: 'Not Found' } : found.body)
  }

  const http = createServer((request, response) => void answer(request, response).catch((error: unknown) => send(response, 500, { message: String(error) })))
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const server: ForgeServer = {
    kind,
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    token,
    state,
    calls,
    fault: undefined,
    close: async () => {
      http.closeAllConnections()
      http.close()
      await once(http, 'close')
    },
  }
  return server
}

/** The open request for two branches. */
export function openFor(state: ForgeState, head: string, base: string): StoredRequest | undefined {
  return state.requests.find((each) => each.state === 'open' && each.head === head && each.base === base)
}

export function addRequest(state: ForgeState, fields: Pick<StoredRequest, 'head' | 'base' | 'title' | 'body' | 'draft'> & Partial<StoredRequest>): StoredRequest {
  const made: StoredRequest = { number: state.requests.length + 1, state: 'open', labels: [], reviewers: [], ...fields }
  state.requests.push(made)
  return made
}
