/** E2B's REST calls, typed by the package's own description of them. */
import { randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import type { components } from 'e2b'
import { z } from 'zod'
import type { FaultPlan } from '../shared-faults.js'
import type { HostedSandbox, SandboxHost } from '../sandbox-host.js'
import { ApiFailure, concurrencyLimit, createRateLimit, lifetimeLimit, type CreateRate, type Plan } from './limits.js'

type Schemas = components['schemas']

/** What the server keeps of a sandbox besides its processes. */
export interface SandboxDetails {
  readonly template: string
  readonly metadata: Readonly<Record<string, string>>
  readonly envVars: Readonly<Record<string, string>>
  readonly accessToken: string
  readonly allowInternetAccess: boolean | undefined
  network: Schemas['SandboxNetworkConfig']
}
export type E2bSandbox = HostedSandbox<SandboxDetails>

export interface Template {
  readonly cpuCount: number
  readonly memoryMB: number
  readonly diskSizeMB: number
}

export interface ApiAnswer {
  readonly status: number
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

const envdVersion = '0.6.13'
const defaultLifetimeSeconds = 300
const maxPageSize = 100
const allTraffic = '0.0.0.0/0'

const egress = {
  allowOut: z.array(z.string()).optional(),
  denyOut: z.array(z.string()).optional(),
  rules: z.record(z.string(), z.array(z.object({ transform: z.object({ headers: z.record(z.string(), z.string()).optional() }).optional() }))).optional(),
}
const networkConfig = z.object({ ...egress, allowPublicTraffic: z.boolean().optional() })
const newSandbox = z.object({
  templateID: z.string().min(1),
  metadata: z.record(z.string(), z.string()).default({}),
  envVars: z.record(z.string(), z.string()).default({}),
  timeout: z.int().min(0).default(defaultLifetimeSeconds),
  allow_internet_access: z.boolean().optional(),
  network: networkConfig.optional(),
  autoPause: z.boolean().optional(),
})
const newLifetime = z.object({ timeout: z.int().min(0).default(defaultLifetimeSeconds) })
const networkUpdate = z.object({ ...egress, allow_internet_access: z.boolean().optional() })

export class ControlPlane {
  private readonly creates = new Map<string, { readonly text: string; answer?: Promise<ApiAnswer> }>()

  constructor(
    private readonly host: SandboxHost<SandboxDetails>,
    private readonly faults: FaultPlan,
    private readonly plan: Plan,
    private readonly createRate: CreateRate,
    private readonly templates: Readonly<Record<string, Template>>,
    private readonly onEnding: (sandboxId: string) => void,
  ) {}

  /**
   * @param key the create's `Idempotency-Key`: what the same request came to, success or refusal, is answered again.
   */
  async create(input: unknown, key?: string): Promise<ApiAnswer> {
    if (key === undefined) return this.createAnew(input)
    if (!/^[a-z0-9-]{1,255}$/.test(key)) throw new ApiFailure(400, 'Idempotency-Key must be 1 to 255 lowercase letters, digits or hyphens')
    const text = JSON.stringify(input)
    const known = this.creates.get(key)
    if (known !== undefined && known.text !== text) throw new ApiFailure(409, 'idempotency_request_mismatch: this key was used for another request')
    if (known?.answer === undefined && known !== undefined) throw new ApiFailure(409, 'idempotency_in_progress: a request with this key is under way')
    if (known?.answer !== undefined) return known.answer
    const entry: { text: string; answer?: Promise<ApiAnswer> } = { text }
    this.creates.set(key, entry)
    const made = this.createAnew(input)
    await made.catch(() => undefined)
    entry.answer = made
    return made
  }

  private async createAnew(input: unknown): Promise<ApiAnswer> {
    const request = parsed(newSandbox, input)
    if (this.templates[request.templateID] === undefined) throw new ApiFailure(404, `template '${request.templateID}' not found`)
    if (request.timeout > this.plan.maxLifetimeSeconds) throw lifetimeLimit(this.plan.maxLifetimeSeconds)
    const network = this.checkedNetwork(request.network ?? {})
    if (!this.createRate.take()) throw createRateLimit()
    if (this.host.occupied >= this.plan.maxConcurrent) throw concurrencyLimit(this.plan.maxConcurrent)
    const id = `i${randomBytes(10).toString('hex')}`
    const sandbox = await this.host.create({
      id,
      lifetimeMs: request.timeout * 1000,
      network: request.allow_internet_access === false ? 'none' : 'open',
      details: {
        template: request.templateID,
        metadata: request.metadata,
        envVars: request.envVars,
        accessToken: randomBytes(24).toString('hex'),
        allowInternetAccess: request.allow_internet_access,
        network,
      },
      onEnding: () => this.onEnding(id),
    })
    return { status: 201, body: connection(sandbox) }
  }

  /** Extends only: a shorter lifetime than what is left changes nothing. */
  connect(id: string, input: unknown): ApiAnswer {
    const sandbox = this.live(id)
    const { timeout } = parsed(newLifetime, input)
    if (timeout > this.plan.maxLifetimeSeconds) throw lifetimeLimit(this.plan.maxLifetimeSeconds)
    const allowedMs = this.allowedMs(sandbox, timeout)
    if (Date.now() + allowedMs > sandbox.expiresAtMs) this.host.setLifetime(id, allowedMs)
    return { status: 200, body: connection(sandbox) }
  }

  get(id: string): ApiAnswer {
    const sandbox = this.live(id)
    const detail: Schemas['SandboxDetail'] = {
      ...this.listed(sandbox),
      envdAccessToken: sandbox.details.accessToken,
      allowInternetAccess: sandbox.details.allowInternetAccess ?? null,
      network: sandbox.details.network,
    }
    return { status: 200, body: detail }
  }

  async kill(id: string): Promise<ApiAnswer> {
    if (!(await this.host.destroy(id, 'killed'))) throw notFound(id)
    return { status: 204 }
  }

  setTimeout(id: string, input: unknown): ApiAnswer {
    const { timeout } = parsed(newLifetime, input)
    if (timeout > this.plan.maxLifetimeSeconds) throw lifetimeLimit(this.plan.maxLifetimeSeconds)
    this.host.setLifetime(id, this.allowedMs(this.live(id), timeout))
    return { status: 204 }
  }

  setNetwork(id: string, input: unknown): ApiAnswer {
    const sandbox = this.live(id)
    const { allow_internet_access: allow, ...update } = parsed(networkUpdate, input)
    sandbox.details.network = this.checkedNetwork(allow === false ? { ...update, denyOut: [allTraffic] } : update)
    return { status: 204 }
  }

  list(query: URLSearchParams): ApiAnswer {
    const limit = Number(query.get('limit') ?? maxPageSize)
    if (!Number.isInteger(limit) || limit < 1 || limit > maxPageSize) throw new ApiFailure(400, `limit must be between 1 and ${maxPageSize}`)
    const states = query.get('state')?.split(',') ?? ['running']
    // The query decodes once, the list of pairs a second time, and each key and value a third.
    const wanted = [...new URLSearchParams(query.get('metadata') ?? '')].map(([key, value]) => [decodeURIComponent(key), decodeURIComponent(value)] as const)
    const asOfMs = this.faults.listDelayMs > 0 ? Date.now() - this.faults.listDelayMs : undefined
    const matching = this.host
      .list(asOfMs)
      .filter((sandbox) => states.includes('running') && wanted.every(([key, value]) => sandbox.details.metadata[key] === value))
      .map((sandbox) => ({ sandbox, cursor: cursorOf(sandbox) }))
      .sort((left, right) => (left.cursor < right.cursor ? 1 : -1))
    const token = query.get('nextToken')
    const after = token === null || token === '' ? undefined : Buffer.from(token, 'base64url').toString()
    const rest = after === undefined ? matching : matching.filter(({ cursor }) => cursor < after)
    const page = rest.slice(0, limit)
    const last = page.at(-1)
    const headers: Record<string, string> = { 'x-total-running': String(matching.length) }
    if (rest.length > page.length && last !== undefined) headers['x-next-token'] = Buffer.from(last.cursor).toString('base64url')
    return { status: 200, body: page.map(({ sandbox }) => this.listed(sandbox)), headers }
  }

  template(alias: string): ApiAnswer {
    if (this.templates[alias] === undefined) throw new ApiFailure(404, `template alias '${alias}' not found`)
    return { status: 200, body: { public: true, templateID: alias } satisfies Schemas['TemplateAliasResponse'] }
  }

  /** Counted from the sandbox's start, the plan's longest lifetime wins over what is asked, and is not told. */
  private allowedMs(sandbox: E2bSandbox, timeoutSeconds: number): number {
    const leftMs = sandbox.createdAtMs + this.plan.maxLifetimeSeconds * 1000 - Date.now()
    if (leftMs < 0) throw new ApiFailure(400, 'Max instance length exceeded')
    return Math.min(leftMs, timeoutSeconds * 1000)
  }

  private live(id: string): E2bSandbox {
    const sandbox = this.host.get(id)
    if (sandbox === undefined) throw notFound(id)
    return sandbox
  }

  private listed(sandbox: E2bSandbox): Schemas['ListedSandbox'] {
    const template = this.templates[sandbox.details.template] ?? { cpuCount: 2, memoryMB: 512, diskSizeMB: 1024 }
    return {
      ...template,
      sandboxID: sandbox.id,
      templateID: sandbox.details.template,
      // oxlint-disable-next-line typescript/no-deprecated -- the type still requires it
      clientID: 'local',
      envdVersion,
      metadata: { ...sandbox.details.metadata },
      startedAt: new Date(sandbox.createdAtMs).toISOString(),
      endAt: new Date(sandbox.expiresAtMs).toISOString(),
      state: 'running',
    }
  }

  private checkedNetwork(config: z.output<typeof networkConfig>): Schemas['SandboxNetworkConfig'] {
    const domains = (config.allowOut ?? []).filter((target) => !isAddress(target))
    if (domains.length > 0 && !(config.denyOut ?? []).includes(allTraffic)) {
      throw new ApiFailure(400, `When specifying allowed domains in allow out, you must include '${allTraffic}' in deny out to block all other traffic.`)
    }
    const badDeny = (config.denyOut ?? []).find((target) => !isAddress(target))
    if (badDeny !== undefined) throw new ApiFailure(400, `invalid denied CIDR ${badDeny}`)
    const rules = Object.values(config.rules ?? {}).flat()
    if (!this.plan.networkTransforms && rules.some((rule) => rule.transform !== undefined)) {
      throw new ApiFailure(400, 'Network transform rules are not available for your team.')
    }
    return JSON.parse(JSON.stringify(config)) as Schemas['SandboxNetworkConfig'] // Without the keys that are undefined.
  }
}

function connection(sandbox: E2bSandbox): Schemas['Sandbox'] {
  return {
    sandboxID: sandbox.id,
    templateID: sandbox.details.template,
    // oxlint-disable-next-line typescript/no-deprecated -- the type still requires it
    clientID: 'local',
    envdVersion,
    envdAccessToken: sandbox.details.accessToken,
    domain: null,
  }
}

function notFound(id: string): ApiFailure {
  return new ApiFailure(404, `sandbox ${id} doesn't exist or you don't have access to it`)
}

function cursorOf(sandbox: E2bSandbox): string {
  return `${String(sandbox.createdAtMs).padStart(16, '0')}/${sandbox.id}`
}

function isAddress(target: string): boolean {
  const [address, bits] = target.split('/')
  return isIP(address ?? '') !== 0 && (bits === undefined || /^\d{1,3}$/.test(bits))
}

function parsed<Schema extends z.ZodType>(schema: Schema, input: unknown): z.output<Schema> {
  const result = schema.safeParse(input)
  if (!result.success) throw new ApiFailure(400, `invalid request: ${result.error.issues[0]?.path.join('.') ?? ''} ${result.error.issues[0]?.message ?? ''}`)
  return result.data
}
