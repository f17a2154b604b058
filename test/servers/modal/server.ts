/**
 * A server that speaks Modal's wire protocol, control plane and command router on one port, and really runs the
 * commands. Point the SDK at it with MODAL_SERVER_URL. Not Modal: what it answers was taken from what the SDK expects.
 */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { serve, type ServerType } from '@hono/node-server'
import { createServer, ServerError, Status, type CallContext, type CompatServiceDefinition, type ServerMiddleware } from 'nice-grpc'
import { bestPlaces, root } from '../bubblewrap-places.js'
import { EgressProxy } from '../e2b/egress-proxy.js'
import { SandboxHost, type OpenPlace } from '../sandbox-host.js'
import { adminApp, FaultPlan, type ServerState } from '../shared-faults.js'
import { commandRouter } from './command-router.js'
import { controlPlane, type ControlPlaneOptions } from './control-plane.js'
import { loadDefinitions, methodNames } from './definitions.js'
import { egressOf } from './egress.js'
import { openFront, type Front } from './front.js'
import { countOpen, faultMiddleware } from './wire-faults.js'
import { World, type ModalSandbox } from './world.js'

export interface ModalServerOptions extends Partial<ControlPlaneOptions> {
  /** 0 for any free port. */
  readonly port?: number
  readonly adminPort?: number
  /** A signalled command's code is the negative number of the signal. */
  readonly negativeCodes?: boolean
  /** Where sandboxes live; as root of their own view, as in most images, when left out. */
  readonly places?: OpenPlace
}

export interface ModalServer {
  /** For MODAL_SERVER_URL. */
  readonly url: string
  readonly adminUrl: string
  readonly tokenId: string
  readonly tokenSecret: string
  readonly plan: FaultPlan
  readonly host: SandboxHost<ModalSandbox>
  readonly world: World
  state(): ServerState
  /** Calls of this name that are under way. */
  openCalls(name: string): number
  /** Connections of clients that are open. */
  connections(): number
  /** Breaks every connection, as a restart does. */
  breakConnections(): void
  close(): Promise<void>
}

const defaults: ControlPlaneOptions = {
  tokenId: 'ak-test',
  tokenSecret: 'as-test-secret',
  maxSandboxes: 100,
  createsPerSecond: 1000,
  askToRetry: true,
  pageSize: 100,
  listTags: false,
  maxCpu: 64,
  maxMemoryMiB: 336 * 1024,
}

export async function startModalServer(given: ModalServerOptions = {}): Promise<ModalServer> {
  const options = { ...defaults, ...given }
  const definitions = loadDefinitions()
  const world = new World()
  const plan = new FaultPlan()
  const host = new SandboxHost<ModalSandbox>(options.places ?? (await bestPlaces(root)))
  const egress = new EgressProxy((sandboxId) => {
    const hosted = host.get(sandboxId)
    return hosted === undefined ? undefined : egressOf(hosted.details)
  })
  await egress.listen()
  const door: { front?: Front } = {}
  const front = (): Front => {
    if (door.front === undefined) throw new Error('a call came before the server listened')
    return door.front
  }
  const sandboxOf = (request: unknown): string | undefined => {
    const ids = request as { sandboxId?: string; taskId?: string }
    return ids.sandboxId ?? world.byTask(ids.taskId ?? '')?.id
  }
  const open = new Map<string, number>()
  const tools = { plan, open, definitions, front, sandboxOf, crash: (sandboxId: string) => host.destroy(sandboxId, 'crashed') }

  const server = createServer({ 'grpc.max_receive_message_length': 100 * 1024 * 1024 }).use(countOpen(tools)).use(faultMiddleware(tools)).use(checkToken(world))
  const routerUrl = () => `https://127.0.0.1:${front().port}`
  server.add(definitions.controlPlane, withRest(definitions.controlPlane, controlPlane({ options, world, host, plan, definitions, routerUrl })))
  server.add(definitions.commandRouter, withRest(definitions.commandRouter, commandRouter({ world, host, tools, negativeCodes: given.negativeCodes ?? false, baseEnvironment: (sandboxId) => egress.environment(sandboxId) })))
  const innerPort = await server.listen('127.0.0.1:0')
  door.front = await openFront(options.port ?? 0, innerPort, () => plan.down === 'refuse')
  const admin = serve({ fetch: adminApp(plan, host).fetch, port: options.adminPort ?? 0, hostname: '127.0.0.1' })
  if (!admin.listening) await once(admin, 'listening')

  return {
    url: `http://127.0.0.1:${front().port}`,
    adminUrl: `http://127.0.0.1:${(admin.address() as AddressInfo).port}`,
    tokenId: options.tokenId,
    tokenSecret: options.tokenSecret,
    plan,
    host,
    world,
    state: () => host.state(),
    openCalls: (name) => open.get(name) ?? 0,
    connections: () => front().count(),
    breakConnections: () => front().breakAll(),
    close: async () => {
      await front().close()
      server.forceShutdown()
      await host.close()
      await egress.close()
      await closeHttp(admin)
    },
  }
}

/** Every method of a service needs a handler: those that this server does not have say so. */
function withRest(definition: CompatServiceDefinition, handlers: Record<string, unknown>): Record<string, never> {
  const rest = methodNames(definition).map((name) => [
    name,
    handlers[name] ??
      (() => {
        throw new ServerError(Status.UNIMPLEMENTED, `${name} is not part of this test server`)
      }),
  ])
  const unknown = Object.keys(handlers).filter((name) => !methodNames(definition).includes(name))
  if (unknown.length > 0) throw new Error(`the installed modal package no longer calls ${unknown.join(', ')}; look up what it calls now`)
  return Object.fromEntries(rest) as Record<string, never>
}

/** Every call of the control plane but the first bears the token that the first one got. */
function checkToken(world: World): ServerMiddleware {
  return async function* check(call, context: CallContext) {
    const { path } = call.method
    if (path.startsWith('/modal.client.') && !path.endsWith('/AuthTokenGet') && !world.tokens.has(context.metadata.get('x-modal-auth-token') ?? '')) {
      throw new ServerError(Status.UNAUTHENTICATED, 'x-modal-auth-token is missing or not valid')
    }
    return yield* call.next(call.request, context)
  }
}

async function closeHttp(server: ServerType): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  if ('closeAllConnections' in server) server.closeAllConnections()
  await closed
}
