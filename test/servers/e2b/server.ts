/**
 * A server that speaks E2B's wire protocol and really runs the commands: the control plane, the service inside the
 * sandboxes (all behind one address, told apart by `E2b-Sandbox-Id`), and `/admin` (see ../shared-faults.ts).
 *
 * The names of the calls, for faults and counters: `create`, `connect`, `get`, `list`, `kill`, `timeout`, `network`,
 * `template`; in the sandbox `start`, `attach`, `process-list`, `signal`, `input`, `close-stdin`, `health`, `files-read`, `files-write`.
 *
 * What `corrupt` does to a stream, by `variant`: `garbage` (no envelope), `no-exit-code` (ends without the command's end),
 * `no-end-of-stream` (ends without its last frame). To any other answer: a page of HTML with status 200.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { getRequestListener } from '@hono/node-server'
import { adminApp, FaultPlan, type Fault } from '../shared-faults.js'
import { bestPlaces } from '../bubblewrap-places.js'
import { SandboxHost, type OpenPlace } from '../sandbox-host.js'
import { ControlPlane, type ApiAnswer, type E2bSandbox, type SandboxDetails, type Template } from './control-plane.js'
import { ConnectFailure, readBody } from './connect-protocol.js'
import { EgressProxy } from './egress-proxy.js'
import { Envd, unaryError } from './envd.js'
import { ApiFailure, CreateRate, planSchema, type Plan } from './limits.js'

export interface E2bServerOptions {
  /** 0, the default, takes a free one. */
  readonly port?: number
  readonly plan?: Partial<Plan>
  /** Keys that are let in. */
  readonly apiKeys?: readonly string[]
  readonly templates?: Readonly<Record<string, Template>>
  /** How long a create takes besides the sandbox itself. */
  readonly createDelayMs?: number
  readonly places?: OpenPlace
}

export interface E2bServer {
  /** Both the `apiUrl` and the `sandboxUrl`; the admin endpoint is at `${url}/admin`. */
  readonly url: string
  readonly apiKey: string
  readonly faults: FaultPlan
  readonly host: SandboxHost<SandboxDetails>
  /** Sees every request but those to the admin endpoint. Call what it returns to stop. */
  onRequest(listener: (request: IncomingMessage) => void): () => void
  close(): Promise<void>
}

const processMethods: Readonly<Record<string, string>> = { Start: 'start', Connect: 'attach', List: 'process-list', SendSignal: 'signal', SendInput: 'input', CloseStdin: 'close-stdin' }
const defaultTemplates: Readonly<Record<string, Template>> = { base: { cpuCount: 2, memoryMB: 512, diskSizeMB: 10_240 } }

export async function startE2bServer(options: E2bServerOptions = {}): Promise<E2bServer> {
  const faults = new FaultPlan()
  const host = new SandboxHost<SandboxDetails>(options.places ?? (await bestPlaces()))
  const egress = new EgressProxy((id) => host.get(id)?.details.network)
  await egress.listen()
  const envd = new Envd(host, (id) => egress.environment(id))
  const plan = planSchema.parse(options.plan ?? {})
  const control = new ControlPlane(host, faults, plan, new CreateRate(plan.createsPerSecond), options.templates ?? defaultTemplates, (id) => envd.sandboxEnded(id))
  const apiKeys = options.apiKeys ?? ['e2b_local']
  const admin = getRequestListener(adminApp(faults, host).fetch)
  const router = new Router(control, envd, host, faults, apiKeys, options.createDelayMs ?? 0)

  const listeners = new Set<(request: IncomingMessage) => void>()
  const server: Server = createServer((request, response) => {
    if (request.url?.startsWith('/admin/') === true) {
      void admin(request, response)
      return
    }
    for (const listener of listeners) listener(request)
    void router.handle(request, response)
  })
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    apiKey: apiKeys[0] ?? '',
    faults,
    host,
    onRequest: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of sockets) socket.destroy()
      await host.close()
      await egress.close()
      await closed
    },
  }
}

class Router {
  constructor(
    private readonly control: ControlPlane,
    private readonly envd: Envd,
    private readonly host: SandboxHost<SandboxDetails>,
    private readonly faults: FaultPlan,
    private readonly apiKeys: readonly string[],
    private readonly createDelayMs: number,
  ) {}

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = new URL(request.url ?? '/', 'http://localhost')
      if (request.headers['e2b-sandbox-id'] === undefined) await this.controlPlane(request, response, url)
      else await this.inSandbox(String(request.headers['e2b-sandbox-id']), request, response, url)
    } catch (error) {
      if (response.headersSent) response.destroy()
      else send(response, 500, { code: 500, message: error instanceof Error ? error.message : String(error) })
    }
  }

  private async controlPlane(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const route = matchRoute(request.method ?? 'GET', url.pathname)
    if (route === undefined) {
      send(response, 404, undefined)
      return
    }
    const fault = this.faults.take(route.call, route.id)
    if (await this.strike(fault, response, route.id, (status, message, headers) => send(response, status, { code: status, message }, headers))) return
    let answer: ApiAnswer
    try {
      if (!this.apiKeys.includes(String(request.headers['x-api-key']))) throw new ApiFailure(401, 'Invalid API key')
      const body = await readBody(request)
      const input: unknown = body.length === 0 ? {} : JSON.parse(body.toString('utf8'))
      answer = await this.call(route.call, route.id ?? '', input, url.searchParams, request.headers['idempotency-key'])
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw error
      answer = { status: error.status, body: { code: error.status, message: error.message }, headers: error.headers }
    }
    if (fault?.action === 'lose-answer') response.destroy()
    else {
      if (fault?.action === 'late-answer') await delay(fault.delayMs)
      send(response, answer.status, answer.body, answer.headers)
    }
  }

  private async call(call: string, id: string, input: unknown, query: URLSearchParams, key: string | string[] | undefined): Promise<ApiAnswer> {
    switch (call) {
      case 'create':
        await delay(this.createDelayMs)
        return this.control.create(input, typeof key === 'string' ? key : undefined)
      case 'connect':
        return this.control.connect(id, input)
      case 'get':
        return this.control.get(id)
      case 'kill':
        return this.control.kill(id)
      case 'timeout':
        return this.control.setTimeout(id, input)
      case 'network':
        return this.control.setNetwork(id, input)
      case 'template':
        return this.control.template(id)
      default:
        return this.control.list(query)
    }
  }

  private async inSandbox(id: string, request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const method = /^\/process\.Process\/(\w+)$/.exec(url.pathname)?.[1]
    const call = method === undefined ? fileCall(request.method, url.pathname) : processMethods[method]
    const fault = this.faults.take(call ?? url.pathname, id)
    if (await this.strike(fault, response, id, (status, message, headers) => send(response, status, { code: status, message }, headers))) return
    const sandbox = this.host.get(id)
    if (sandbox === undefined) {
      send(response, 502, { sandboxId: id, message: 'The sandbox was not found', code: 502 })
      return
    }
    if (request.headers['x-access-token'] !== sandbox.details.accessToken && call !== 'health') {
      send(response, 401, { code: 'unauthenticated', message: 'unauthorized access' })
      return
    }
    this.envd.track(id, response)
    if (method === 'Start' || method === 'Connect') await this.envd.stream(method, sandbox, request, response, fault)
    else if (method !== undefined) await this.unary(method, sandbox, request, response)
    else await this.files(call, sandbox, request, response, url.searchParams)
  }

  private async unary(method: string, sandbox: E2bSandbox, request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = await readBody(request)
      send(response, 200, await this.envd.unary(method, sandbox, JSON.parse(body.toString('utf8'))))
    } catch (error) {
      const { status, body } = unaryError(error)
      send(response, status, body)
    }
  }

  private async files(call: string | undefined, sandbox: E2bSandbox, request: IncomingMessage, response: ServerResponse, query: URLSearchParams): Promise<void> {
    const path = query.get('path') ?? ''
    if (call === 'health') send(response, 204, undefined)
    else if (call === 'files-read') {
      const content = await this.envd.read(sandbox, path)
      if (content === undefined) send(response, 404, { code: 404, message: `path '${path}' does not exist` })
      else response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(content)
    } else if (call === 'files-write') {
      // oxlint-disable-next-line typescript/no-deprecated -- a test server: its bodies are small and trusted
      const form = await new Response(new Uint8Array(await readBody(request)), { headers: { 'content-type': request.headers['content-type'] ?? '' } }).formData()
      const written = []
      for (const file of form.getAll('file')) {
        if (file instanceof File) written.push(await this.envd.write(sandbox, path === '' ? file.name : path, Buffer.from(await file.arrayBuffer())))
      }
      send(response, 200, written)
    } else {
      const { status, body } = unaryError(new ConnectFailure('unimplemented', `${url404(request)} is not implemented`))
      send(response, status, body)
    }
  }

  /** Does what a fault says before the call itself. True when that was all. */
  private async strike(
    fault: Fault | undefined,
    response: ServerResponse,
    sandboxId: string | undefined,
    answer: (status: number, message: string, headers: Record<string, string>) => void,
  ): Promise<boolean> {
    switch (fault?.action) {
      case 'refuse':
        response.destroy()
        return true
      case 'hang':
        return true
      case 'delay':
        await delay(fault.delayMs)
        return false
      case 'status':
        if (fault.page !== undefined) response.writeHead(fault.status, { 'content-type': 'text/html', ...fault.headers }).end(fault.page)
        else if (fault.empty) send(response, fault.status, undefined, fault.headers)
        else answer(fault.status, fault.message, fault.headers)
        return true
      case 'corrupt':
        if (['garbage', 'no-exit-code', 'no-end-of-stream'].includes(fault.variant)) return false
        response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Welcome to the proxy</html>')
        return true
      case 'kill-sandbox':
        if (sandboxId !== undefined) await this.host.destroy(sandboxId, 'crashed')
        return false
      default:
        return false
    }
  }
}

function matchRoute(method: string, path: string): { call: string; id?: string } | undefined {
  if (path === '/v2/sandboxes') return method === 'POST' ? { call: 'create' } : method === 'GET' ? { call: 'list' } : undefined
  const alias = /^\/templates\/aliases\/([^/]+)$/.exec(path)?.[1]
  if (alias !== undefined) return method === 'GET' ? { call: 'template', id: decodeURIComponent(alias) } : undefined
  const id = /^\/(?:v2\/)?sandboxes\/([^/]+)/.exec(path)?.[1]
  if (id === undefined) return undefined
  switch (`${method} ${path.replace(id, ':id')}`) {
    case 'POST /v2/sandboxes/:id/connect':
      return { call: 'connect', id }
    case 'GET /sandboxes/:id':
      return { call: 'get', id }
    case 'DELETE /sandboxes/:id':
      return { call: 'kill', id }
    case 'POST /sandboxes/:id/timeout':
      return { call: 'timeout', id }
    case 'PUT /sandboxes/:id/network':
      return { call: 'network', id }
    default:
      return undefined
  }
}

function fileCall(method: string | undefined, path: string): string | undefined {
  if (path === '/health') return 'health'
  if (path === '/files') return method === 'POST' ? 'files-write' : 'files-read'
  return undefined
}

function url404(request: IncomingMessage): string {
  return `${request.method ?? ''} ${request.url?.split('?')[0] ?? ''}`
}

function send(response: ServerResponse, status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): void {
  if (response.destroyed) return
  response.writeHead(status, { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers })
  response.end(body === undefined ? undefined : JSON.stringify(body))
}
