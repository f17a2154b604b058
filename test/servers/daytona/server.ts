/**
 * A server that speaks Daytona's API and its toolbox proxy as far as `@daytona/sdk` 0.216 uses them for sandboxes and
 * short commands. Quotas, create rate, lifetimes, pages and errors are enforced and worded as the service does; the
 * commands really run. Faults and counters: see ../shared-faults.ts. Its calls are named `create`, `get`, `list`,
 * `delete`, `ttl`, `labels`, `activity`, `autostop`, `autodelete`, `snapshot`, `activate`, `network-settings` and `execute`.
 *
 * `corrupt` variants: `execute`: `html`, `no-exit-code`; `delete`: `stuck` (accepted, and never done).
 */
import { isIPv4, type AddressInfo } from 'node:net'
import { serve, type HttpBindings, type ServerType } from '@hono/node-server'
import { Hono } from 'hono'
import { z } from 'zod'
import { bestPlaces } from '../bubblewrap-places.js'
import { EgressProxy } from '../e2b/egress-proxy.js'
import { SandboxHost, type OpenPlace } from '../sandbox-host.js'
import { FaultPlan, adminApp, type Fault } from '../shared-faults.js'
import { underPlan, type HttpContext } from './faulty.js'
import { SandboxRecords, type Pool, type SandboxRecord } from './records.js'
import { Secrets } from './secrets.js'
import { execute, executeBody, proxyError, type DaemonKind } from './toolbox.js'

export interface DaytonaServerOptions {
  readonly port?: number
  readonly apiKey?: string
  /** The organisation's pool; tier 1 when left out. */
  readonly pool?: Pool
  /** The most that one sandbox may have. */
  readonly perSandbox?: Pool
  readonly createsPerMinute?: number
  /** How long a minute of a lifetime lasts. */
  readonly minuteMs?: number
  readonly startDelayMs?: number
  readonly snapshots?: Readonly<Record<string, SnapshotState>>
  /** What an activation comes to: the snapshot is active after a pull, or it is refused with this sentence. Default: active. */
  readonly activation?: 'active' | 'error' | { readonly refused: string }
  /** Images that can't be pulled. */
  readonly missingImages?: readonly string[]
  /** Images whose sandboxes don't start, and what Daytona says of them. */
  readonly startFailures?: Readonly<Record<string, { readonly state: 'error' | 'build_failed'; readonly reason: string }>>
  /** Whether lists of names are enforced, by taking the network away: no name is let through here. Default: as the runners up to 0.190, no. */
  readonly enforcesNames?: boolean
  /** As on tiers 1 and 2: the organisation's policy holds for the network of all its sandboxes. */
  readonly limitedNetworkEgress?: boolean
  readonly daemon?: DaemonKind
  /** How the proxy answers for a sandbox that is not there: the real one has shown each of these. */
  readonly vanishedStatus?: 400 | 401 | 404 | 502
  readonly places?: OpenPlace
}

export interface DaytonaServer {
  /** For the SDK's `apiUrl`. */
  readonly apiUrl: string
  /** The root, with `/admin` below it. */
  readonly url: string
  readonly apiKey: string
  readonly plan: FaultPlan
  readonly records: SandboxRecords
  /** The bodies of all creates, as received. */
  readonly createBodies: readonly Readonly<Record<string, unknown>>[]
  close(): Promise<void>
}

export type SnapshotState = 'building' | 'pending' | 'pulling' | 'active' | 'inactive' | 'error' | 'build_failed' | 'removing'

const createBody = z.looseObject({
  name: z.string().optional(),
  snapshot: z.string().optional(),
  buildInfo: z.object({ dockerfileContent: z.string() }).optional(),
  env: z.record(z.string(), z.string()).optional(),
  labels: z.record(z.string(), z.string()).optional(),
  target: z.string().optional(),
  cpu: z.int().positive().optional(),
  memory: z.int().positive().optional(),
  disk: z.int().positive().optional(),
  autoStopInterval: z.int().min(0).optional(),
  autoDeleteInterval: z.int().optional(),
  ttlMinutes: z.int().min(0).optional(),
  networkBlockAll: z.boolean().optional(),
  networkAllowList: z.string().optional(),
  domainAllowList: z.string().optional(),
  secrets: z.array(z.record(z.string(), z.string())).optional(),
})

export async function startDaytonaServer(options: DaytonaServerOptions = {}): Promise<DaytonaServer> {
  const plan = new FaultPlan()
  const host = new SandboxHost<SandboxRecord>(options.places ?? (await bestPlaces()))
  const missing = options.missingImages ?? []
  const records = new SandboxRecords(host, {
    enforcesNames: options.enforcesNames ?? false,
    minuteMs: options.minuteMs ?? 60_000,
    startDelayMs: options.startDelayMs ?? 0,
    startFailure: (record) => {
      const image = /^FROM (\S+)/.exec(record.body.buildInfo?.dockerfileContent ?? '')?.[1]
      const failure = options.startFailures?.[image ?? record.body.snapshot ?? '']
      if (failure !== undefined) return failure
      if (image === undefined || !missing.includes(image)) return undefined
      return { state: 'build_failed', reason: `manifest for ${image} not found: manifest unknown` }
    },
  })
  const createBodies: Record<string, unknown>[] = []
  const secrets = new Secrets()
  const egress = new EgressProxy((id) => {
    const mounted = host.get(id)?.details.body.secrets
    return mounted === undefined ? undefined : { standIns: secrets.standIns(mounted) }
  })
  await egress.listen()
  const server = new Service(options, plan, host, records, createBodies, secrets, egress)
  const app = server.app()
  app.route('/', adminApp(plan, { state: () => ({ ...host.state(), pool: records.used() }), destroy: (id, reason) => host.destroy(id, reason) }))
  const http = await new Promise<ServerType>((resolve) => {
    const started = serve({ fetch: app.fetch, port: options.port ?? 0, hostname: '127.0.0.1' }, () => resolve(started))
  })
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  server.url = url
  return {
    apiUrl: `${url}/api`,
    url,
    apiKey: server.apiKey,
    plan,
    records,
    createBodies,
    close: async () => {
      if ('closeAllConnections' in http) http.closeAllConnections()
      await new Promise((resolve) => http.close(resolve))
      await egress.close()
      await records.close()
      await host.close()
    },
  }
}

class Service {
  readonly apiKey: string
  url = ''
  private createTimesMs: number[] = []
  private readonly snapshots: Map<string, SnapshotState>
  private readonly pool: Pool
  private readonly perSandbox: Pool

  constructor(
    private readonly options: DaytonaServerOptions,
    private readonly plan: FaultPlan,
    private readonly host: SandboxHost<SandboxRecord>,
    private readonly records: SandboxRecords,
    private readonly createBodies: Record<string, unknown>[],
    private readonly secrets: Secrets,
    private readonly egress: EgressProxy,
  ) {
    this.apiKey = options.apiKey ?? 'dtn_test_key'
    this.snapshots = new Map(Object.entries(options.snapshots ?? {}))
    this.pool = options.pool ?? { cpu: 10, memoryGiB: 10, diskGiB: 30 }
    this.perSandbox = options.perSandbox ?? { cpu: 4, memoryGiB: 8, diskGiB: 10 }
  }

  app(): Hono<{ Bindings: HttpBindings }> {
    const app = new Hono<{ Bindings: HttpBindings }>()
    app.onError((error) => apiError(error instanceof z.ZodError ? 400 : 500, error instanceof z.ZodError ? z.prettifyError(error) : error.message))
    app.notFound((context) => apiError(404, `Cannot ${context.req.method} ${context.req.path}`))
    for (const prefix of ['/api/*', '/toolbox/*']) {
      app.use(prefix, async (context, next) => {
        if (context.req.header('authorization') !== `Bearer ${this.apiKey}`) return apiError(401, 'Invalid credentials')
        await next()
        return undefined
      })
    }
    app.post('/api/secret', async (context) => {
      const made = this.secrets.add(await context.req.json())
      return made === undefined ? apiError(409, 'Secret with this name already exists') : Response.json(made, { status: 201 })
    })
    app.get('/api/secret/paginated', (context) => Response.json(this.secrets.page(context.req.query())))
    app.post('/api/sandbox', (context) => underPlan(this.plan, 'create', context, () => this.create(context)))
    app.get('/api/sandbox', (context) => underPlan(this.plan, 'list', context, async () => this.list(context)))
    app.get('/api/sandbox/:id', (context) => this.ofSandbox('get', context, (record) => Response.json(this.dto(record))))
    app.delete('/api/sandbox/:id', (context) => this.ofSandbox('delete', context, (record, fault) => this.delete(record, fault)))
    app.post('/api/sandbox/:id/ttl/:minutes', (context) =>
      this.ofSandbox('ttl', context, (record) => {
        this.records.setTtl(record, z.coerce.number().int().min(0).parse(context.req.param('minutes')))
        return Response.json(this.dto(record))
      }),
    )
    app.put('/api/sandbox/:id/labels', (context) =>
      this.ofSandbox('labels', context, async (record) => {
        record.labels = z.object({ labels: z.record(z.string(), z.string()) }).parse(await context.req.json()).labels
        return Response.json({ labels: record.labels })
      }),
    )
    app.post('/api/sandbox/:id/last-activity', (context) =>
      this.ofSandbox('activity', context, (record) => {
        this.records.touch(record)
        return new Response(null, { status: 201 })
      }),
    )
    for (const [call, field] of [['autostop', 'autoStopInterval'], ['autodelete', 'autoDeleteInterval']] as const) {
      app.post(`/api/sandbox/:id/${call}/:interval`, (context) =>
        this.ofSandbox(call, context, (record) => {
          record[field] = z.coerce.number().int().parse(context.req.param('interval'))
          this.records.touch(record)
          return Response.json(this.dto(record))
        }),
      )
    }
    app.get('/api/snapshots/:name', (context) =>
      underPlan(this.plan, 'snapshot', context, async () => {
        const name = context.req.param('name')
        const state = this.snapshots.get(name)
        if (state === undefined) return apiError(404, `Snapshot with ID or name ${name} not found`)
        // The pull ends while it is looked at.
        if (state === 'pending') this.snapshots.set(name, 'pulling')
        if (state === 'pulling') this.snapshots.set(name, this.options.activation === 'error' ? 'error' : 'active')
        return Response.json(snapshotDto(name, state))
      }),
    )
    app.post('/api/snapshots/:id/activate', (context) =>
      underPlan(this.plan, 'activate', context, async () => {
        const id = context.req.param('id')
        const state = this.snapshots.get(id)
        const { activation = 'active' } = this.options
        if (state === undefined) return apiError(404, `Snapshot ${id} not found`)
        if (state === 'active') return apiError(400, `Snapshot ${id} is already active`)
        if (state !== 'inactive') return apiError(400, `Snapshot ${id} cannot be activated - it is in ${state} state`)
        if (typeof activation === 'object') return apiError(400, activation.refused)
        this.snapshots.set(id, 'pending')
        return Response.json(snapshotDto(id, 'pending'))
      }),
    )
    app.post('/api/sandbox/:id/network-settings', (context) =>
      this.ofSandbox('network-settings', context, async (record) => {
        // Before anything is looked at, as the makers' server does.
        if (this.options.limitedNetworkEgress === true) {
          return apiError(400, 'Network access is restricted and cannot be overridden at the sandbox level. See https://www.daytona.io/docs/en/network-limits/#tier-based-network-restrictions')
        }
        const settings = z.object({ networkBlockAll: z.boolean(), networkAllowList: z.string(), domainAllowList: z.string() }).partial().parse(await context.req.json())
        if (Object.keys(settings).length === 0) return apiError(400, 'At least one of networkBlockAll, networkAllowList or domainAllowList must be provided')
        return Response.json({ ...this.dto(record), ...settings })
      }),
    )
    app.post('/toolbox/:id/process/execute', (context) => this.execute(context))
    return app
  }

  private async ofSandbox(
    call: string,
    context: HttpContext,
    work: (record: SandboxRecord, fault: Fault | undefined) => Response | Promise<Response>,
  ): Promise<Response> {
    const idOrName = context.req.param('id') ?? ''
    const id = this.records.find(idOrName)?.id ?? idOrName
    return await underPlan(
      this.plan,
      call,
      context,
      async (fault) => {
        const record = this.records.find(idOrName)
        return record === undefined ? apiError(404, `Sandbox with ID or name ${idOrName} not found`) : await work(record, fault)
      },
      { id, kill: () => this.host.destroy(id, 'crashed') },
    )
  }

  private async create(context: HttpContext): Promise<Response> {
    const limit = this.options.createsPerMinute ?? 300
    const nowMs = Date.now()
    this.createTimesMs = this.createTimesMs.filter((timeMs) => timeMs > nowMs - 60_000)
    if (this.createTimesMs.length >= limit) {
      const waitSeconds = Math.ceil(((this.createTimesMs[0] ?? nowMs) + 60_000 - nowMs) / 1000)
      return apiError(429, 'ThrottlerException: Too Many Requests', { 'Retry-After-sandbox-create': String(waitSeconds) })
    }
    this.createTimesMs.push(nowMs)
    const raw = z.record(z.string(), z.unknown()).parse(await context.req.json())
    this.createBodies.push(raw)
    const body = createBody.parse(raw)
    if (body.name !== undefined && this.records.find(body.name) !== undefined) return apiError(409, `Sandbox with name ${body.name} already exists`)
    if (body.snapshot !== undefined) {
      const state = this.snapshots.get(body.snapshot)
      if (state === undefined) return apiError(400, `Snapshot ${body.snapshot} not found. Did you add it through the Daytona Dashboard?`)
      if (state !== 'active') return apiError(400, `Snapshot ${body.snapshot} is ${state}`)
      if (body.cpu !== undefined || body.memory !== undefined || body.disk !== undefined) {
        return apiError(400, 'Cannot specify Sandbox resources when using a snapshot')
      }
    }
    const badList = allowListProblem(body)
    if (badList !== undefined) return apiError(400, badList)
    const unknown = this.secrets.unknown(body.secrets)
    if (unknown !== undefined) return apiError(400, `Secret ${unknown} not found`)
    const tooMuch = this.quotaProblem(body)
    if (tooMuch !== undefined) return apiError(400, tooMuch)
    return Response.json(this.dto(this.records.add(body)))
  }

  private quotaProblem(body: z.output<typeof createBody>): string | undefined {
    const wanted: Pool = { cpu: body.cpu ?? 1, memoryGiB: body.memory ?? 1, diskGiB: body.disk ?? 3 }
    const used = this.records.used()
    for (const [key, word, unit] of [['cpu', 'CPU', ''], ['memoryGiB', 'memory', 'GiB'], ['diskGiB', 'disk', 'GiB']] as const) {
      const title = word === 'CPU' ? word : word.charAt(0).toUpperCase() + word.slice(1)
      if (wanted[key] > this.perSandbox[key]) return `${title} request ${wanted[key]}${unit} exceeds maximum allowed per sandbox (${this.perSandbox[key]}${unit}).`
      if (used[key] + wanted[key] > this.pool[key]) return `Total ${word} limit exceeded. Maximum allowed: ${this.pool[key]}${unit}.`
    }
    return undefined
  }

  private list(context: HttpContext): Response {
    const query = z
      .object({ limit: z.coerce.number().int().min(1).max(200).default(100), cursor: z.string().optional(), labels: z.string().optional() })
      .parse(context.req.query())
    const labels = query.labels === undefined ? {} : z.record(z.string(), z.string()).parse(JSON.parse(query.labels))
    const asOfMs = this.plan.listDelayMs === 0 ? undefined : Date.now() - this.plan.listDelayMs
    const matching = this.records.list(asOfMs).filter((record) => Object.entries(labels).every(([key, value]) => record.labels[key] === value))
    const after = query.cursor === undefined ? -1 : matching.findIndex((record) => record.id === Buffer.from(query.cursor ?? '', 'base64url').toString())
    if (query.cursor !== undefined && after === -1) return apiError(400, 'Invalid cursor')
    const page = matching.slice(after + 1, after + 1 + query.limit)
    const last = page.at(-1)
    const more = last !== undefined && after + 1 + query.limit < matching.length
    const items = page.map((record) => {
      const { env: _env, ...item } = this.dto(record)
      return item
    })
    return Response.json({ items, nextCursor: more ? Buffer.from(last.id).toString('base64url') : null })
  }

  private delete(record: SandboxRecord, fault: Fault | undefined): Response {
    if (record.state === 'creating' || record.state === 'destroying') return apiError(409, 'Sandbox state change in progress')
    if (fault?.action === 'corrupt' && fault.variant === 'stuck') return Response.json({ ...this.dto(record), state: 'destroying' })
    this.records.destroy(record)
    return Response.json(this.dto(record))
  }

  private async execute(context: HttpContext): Promise<Response> {
    const id = context.req.param('id') ?? ''
    return await underPlan(
      this.plan,
      'execute',
      context,
      async (fault) => {
        const sent = executeBody.parse(await context.req.json())
        const record = this.records.find(id)
        if (record?.state !== 'started') return this.vanished(id)
        const body = { ...sent, envs: { ...this.secrets.environment(record.body.secrets), ...this.egress.environment(id), ...sent.envs } }
        this.records.touch(record)
        return await execute(this.host, id, body, this.options.daemon ?? 'shell', fault).finally(() => this.records.touch(record))
      },
      { id, kill: () => this.host.destroy(id, 'crashed') },
    )
  }

  private vanished(id: string): Response {
    switch (this.options.vanishedStatus ?? 404) {
      case 400:
        return proxyError(400, 'sandbox is not running — start the sandbox before accessing it', 'SANDBOX_NOT_STARTED')
      case 401:
        return proxyError(401, 'unauthorized: authentication failed', 'UNAUTHORIZED')
      case 404:
        return proxyError(404, `not found: sandbox container not found: No such container: ${id}`, 'SANDBOX_NOT_FOUND')
      case 502:
        return proxyError(502, 'runner is unreachable: connection refused', 'RUNNER_UNREACHABLE')
    }
  }

  private dto(record: SandboxRecord): Record<string, unknown> {
    return {
      id: record.id,
      organizationId: 'organization',
      name: record.name,
      snapshot: record.body.snapshot,
      user: 'daytona',
      env: record.body.env ?? {},
      labels: record.labels,
      public: false,
      networkBlockAll: record.body.networkBlockAll ?? false,
      networkAllowList: record.body.networkAllowList,
      domainAllowList: record.body.domainAllowList,
      target: record.body.target ?? 'us',
      cpu: record.cpu,
      gpu: 0,
      memory: record.memory,
      disk: record.disk,
      state: record.state,
      errorReason: record.errorReason,
      autoStopInterval: record.autoStopInterval,
      autoDeleteInterval: record.autoDeleteInterval,
      autoDestroyAt: record.destroyAtMs === undefined ? undefined : new Date(record.destroyAtMs).toISOString(),
      createdAt: new Date(record.createdAtMs).toISOString(),
      lastActivityAt: new Date(record.lastActivityAtMs).toISOString(),
      toolboxProxyUrl: `${this.url}/toolbox`,
    }
  }
}

const reasons: Readonly<Record<number, string>> = { 400: 'Bad Request', 401: 'Unauthorized', 404: 'Not Found', 409: 'Conflict', 429: 'Too Many Requests' }

function apiError(statusCode: number, message: string, headers: Record<string, string> = {}): Response {
  return Response.json(
    { statusCode, message, error: reasons[statusCode] ?? 'Internal Server Error', source: 'DAYTONA_API', timestamp: new Date().toISOString() },
    { status: statusCode, headers },
  )
}

function snapshotDto(name: string, state: SnapshotState): Record<string, unknown> {
  return { id: name, name, state, cpu: 1, mem: 1, disk: 3, gpu: 0, general: false, entrypoint: [], errorReason: state === 'error' ? 'the pull failed' : null }
}

/** The lists as the makers' server checks them: one word for every entry, ten of them, IPv4 with a prefix, names by labels. */
function allowListProblem({ networkAllowList = '', domainAllowList = '' }: z.output<typeof createBody>): string | undefined {
  const networks = networkAllowList.split(',').map((each) => each.trim())
  for (const network of networks.filter((each) => each !== '')) {
    const [address = '', bits] = network.split('/')
    if (!isIPv4(address)) return `Invalid IP address: "${address}" in network "${network}". Must be a valid IPv4 address`
    if (bits === undefined || bits === '') return `Invalid network format: "${network}". Missing CIDR prefix length (e.g., /24)`
    if (Number(bits) < 0 || Number(bits) > 32) return `Invalid CIDR prefix length: ${network}. Prefix must be between 0 and 32`
  }
  if (networks.length > 10) return 'Network allow list cannot contain more than 10 networks'
  const domains = domainAllowList.split(',').map((each) => each.trim())
  const bad = domains.find((each) => each !== '' && !/^(\*\.)?([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,}$/.test(each))
  if (bad !== undefined) return `Invalid domain: "${bad}". Must be a valid domain name`
  return domains.length > 10 ? 'Domain allow list cannot contain more than 10 domains' : undefined
}
