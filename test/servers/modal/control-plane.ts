/** Modal's API: apps, images, and the life of sandboxes. Answers are worded as the fact sheet of the SDK says. */
import type { ModalClient } from 'modal'
import { ServerError, Status, type CallContext } from 'nice-grpc'
import type { FaultPlan } from '../shared-faults.js'
import type { ModalDefinitions } from './definitions.js'
import { throttled } from './wire-faults.js'
import { alphanumeric, newSandboxId, resultStatus, type Host, type ModalSandbox, type World } from './world.js'

type Methods = ModalClient['cpClient']
type Unary = { [Name in keyof Methods]: ReturnType<Methods[Name]> extends Promise<unknown> ? Name : never }[keyof Methods]
type Request<Name extends Unary> = Parameters<Methods[Name]>[0]
type Partly<Type> = Type extends Uint8Array ? Type : Type extends object ? { [Key in keyof Type]?: Partly<Type[Key]> | undefined } : Type
type Handler<Name extends Unary> = (request: Request<Name>, context: CallContext) => Promise<Partly<Awaited<ReturnType<Methods[Name]>>>>

export interface ControlPlaneOptions {
  readonly tokenId: string
  readonly tokenSecret: string
  /** Sandboxes that may run at once. */
  readonly maxSandboxes: number
  /** Creates in any second; more are answered with RESOURCE_EXHAUSTED. */
  readonly createsPerSecond: number
  /** Whether that answer asks the client to retry, which Modal's does for some limits and not for others. */
  readonly askToRetry: boolean
  /** How many sandboxes a page of the listing has. */
  readonly pageSize: number
  /** Whether the listing gives tags; Modal's V2 listing does not. */
  readonly listTags: boolean
  readonly maxCpu: number
  readonly maxMemoryMiB: number
}

export interface ControlPlaneParts {
  readonly options: ControlPlaneOptions
  readonly world: World
  readonly host: Host
  readonly plan: FaultPlan
  readonly definitions: ModalDefinitions
  /** Where the command router is: must read https. */
  routerUrl(): string
}

const day = 24 * 60 * 60
/** `ObjectCreationType` and `NetworkAccessType` on the wire. */
const createIfMissing = 1
const networkBlocked = 2

/** The methods that are there; the server answers UNIMPLEMENTED to the rest. */
export function controlPlane(parts: ControlPlaneParts): Record<string, unknown> {
  const { options, world, host, plan, definitions } = parts
  const creates: number[] = []

  const existing = (sandboxId: string | undefined): ModalSandbox => {
    const sandbox = world.sandboxes.get(sandboxId ?? '')
    if (sandbox === undefined) throw new ServerError(Status.NOT_FOUND, `Sandbox ${sandboxId ?? ''} not found`)
    return sandbox
  }
  const access = () => ({ url: parts.routerUrl(), jwt: world.mintToken(3600) })

  const authTokenGet: Handler<'authTokenGet'> = async (_request, context) => {
    const { metadata } = context
    if (metadata.get('x-modal-token-id') !== options.tokenId || metadata.get('x-modal-token-secret') !== options.tokenSecret) {
      throw new ServerError(Status.UNAUTHENTICATED, 'Token ID is malformed or the token is not valid')
    }
    return { token: world.mintToken(1200) }
  }

  const environmentGetOrCreate: Handler<'environmentGetOrCreate'> = async ({ deploymentName }) => {
    if (deploymentName === 'no-such-environment') throw new ServerError(Status.NOT_FOUND, `Environment '${deploymentName}' not found`)
    return { environmentId: 'en-main', metadata: { name: deploymentName === '' ? 'main' : deploymentName, settings: { imageBuilderVersion: '2024.10', webhookSuffix: '' } } }
  }

  const appGetOrCreate: Handler<'appGetOrCreate'> = async ({ appName = '', environmentName = '', objectCreationType }) => {
    const appId = world.appId(environmentName, appName, Number(objectCreationType) === createIfMissing)
    if (appId === undefined) throw new ServerError(Status.NOT_FOUND, `App '${appName}' not found`)
    return { appId }
  }

  /** An image whose name says that it does not exist fails to build; every other one is built on the first join. */
  const buildResult = (definition: string, id: string) =>
    definition.includes('no-such-image')
      ? { status: resultStatus.failure, exception: `Image build for ${id} failed: manifest unknown: ${definition}` }
      : { status: resultStatus.success }

  const imageGetOrCreate: Handler<'imageGetOrCreate'> = async ({ image }) => {
    const definition = (image?.dockerfileCommands ?? []).join('\n')
    const known = world.image(definition)
    return { imageId: known.id, result: known.built ? buildResult(definition, known.id) : undefined }
  }

  const imageJoinStreaming = async function* imageJoinStreaming({ imageId }: Partly<Parameters<Methods['imageJoinStreaming']>[0]>) {
    const [definition, image] = [...world.images].find(([, one]) => one.id === imageId) ?? []
    if (definition === undefined || image === undefined) throw new ServerError(Status.NOT_FOUND, `Image ${imageId ?? ''} not found`)
    yield { entryId: '1', taskLogs: [{ data: 'Building image\n' }] }
    image.built = true
    yield { entryId: '2', result: buildResult(definition, image.id), eof: true }
  }

  const imageFromId: Handler<'imageFromId'> = async ({ imageId }) => {
    if (![...world.images.values()].some((image) => image.id === imageId)) throw new ServerError(Status.NOT_FOUND, `Image ${imageId ?? ''} not found`)
    return { imageId: imageId ?? '' }
  }

  const checkCreate = (definition: Request<'sandboxCreateV2'>['definition'], context: CallContext): void => {
    const { milliCpu = 0, memoryMb = 0 } = definition?.resources ?? {}
    if (milliCpu > options.maxCpu * 1000) throw new ServerError(Status.INVALID_ARGUMENT, `CPU request of ${milliCpu / 1000} cores exceeds the maximum of ${options.maxCpu}`)
    if (memoryMb > options.maxMemoryMiB) throw new ServerError(Status.INVALID_ARGUMENT, `Memory request of ${memoryMb} MiB exceeds the maximum of ${options.maxMemoryMiB} MiB`)
    if ((definition?.timeoutSecs ?? 0) > day) throw new ServerError(Status.INVALID_ARGUMENT, `Timeout must be at most ${day} seconds`)
    const now = Date.now()
    while (creates[0] !== undefined && creates[0] <= now - 1000) creates.shift()
    if (creates.length >= options.createsPerSecond) {
      const message = `Sandbox creation rate limit of ${options.createsPerSecond}/s exceeded`
      throw options.askToRetry ? throttled(definitions, context, Status.RESOURCE_EXHAUSTED, message, 1) : new ServerError(Status.RESOURCE_EXHAUSTED, message)
    }
    if (host.occupied >= options.maxSandboxes) {
      throw new ServerError(Status.RESOURCE_EXHAUSTED, `Workspace has reached its limit of ${options.maxSandboxes} concurrent sandboxes`)
    }
    creates.push(now)
  }

  const sandboxCreateV2: Handler<'sandboxCreateV2'> = async ({ appId = '', definition, tags = [] }, context) => {
    const name = definition?.name
    if (name !== undefined && world.running(appId, name) !== undefined) {
      throw new ServerError(Status.ALREADY_EXISTS, `Sandbox with name '${name}' already exists in the app`)
    }
    checkCreate(definition, context)
    const id = newSandboxId()
    const timeoutSecs = definition?.timeoutSecs ?? 300
    let onEnded = (): void => undefined
    const sandbox: ModalSandbox = {
      id,
      taskId: `ta-${alphanumeric(26)}`,
      appId,
      name,
      tags: fromTagList(tags),
      createdAtSecs: world.nextCreatedAtSecs(),
      timeoutSecs,
      definition,
      outboundPolicy: definition?.experimentalOutboundPolicy,
      execs: new Map(),
      endReason: undefined,
      ended: new Promise((resolve) => (onEnded = () => resolve())),
    }
    // The name is taken from here on, also while the sandbox is made.
    world.sandboxes.set(id, sandbox)
    try {
      await host.create({
        id,
        details: sandbox,
        lifetimeMs: timeoutSecs * 1000,
        network: Number(definition?.networkAccess?.networkAccessType) === networkBlocked ? 'none' : 'open',
        onEnd: (reason) => {
          sandbox.endReason = reason
          onEnded()
        },
      })
    } catch (error) {
      world.sandboxes.delete(id)
      throw error
    }
    return { sandboxId: id, taskId: sandbox.taskId, tunnels: [], commandRouterAccess: access() }
  }

  const sandboxGetFromNameV2: Handler<'sandboxGetFromNameV2'> = async ({ sandboxName = '', appName = '', environmentName = '' }) => {
    const appId = world.appId(environmentName, appName, false)
    const sandbox = appId === undefined ? undefined : world.running(appId, sandboxName)
    if (sandbox === undefined) throw new ServerError(Status.NOT_FOUND, `Sandbox with name '${sandboxName}' not found`)
    return { sandboxId: sandbox.id }
  }

  const sandboxGetTaskIdV2: Handler<'sandboxGetTaskIdV2'> = async ({ sandboxId }) => {
    const sandbox = existing(sandboxId)
    return sandbox.endReason === undefined ? { taskId: sandbox.taskId } : { taskResult: { status: resultStatus.terminated, exception: `Sandbox ${sandbox.id} has already finished` } }
  }

  const sandboxGetCommandRouterAccess: Handler<'sandboxGetCommandRouterAccess'> = async ({ sandboxId }) => {
    existing(sandboxId)
    return access()
  }

  const sandboxWaitV2: Handler<'sandboxWaitV2'> = async ({ sandboxId, timeout = 0 }, context) => {
    const sandbox = existing(sandboxId)
    if (sandbox.endReason === undefined && timeout > 0) await settled(sandbox.ended, timeout * 1000, context.signal)
    if (sandbox.endReason === undefined) return { result: undefined }
    const status = { killed: resultStatus.terminated, expired: resultStatus.timeout, crashed: resultStatus.internalFailure }[sandbox.endReason]
    return { result: { status, exitcode: sandbox.endReason === 'crashed' ? 1 : 0, exception: '' } }
  }

  const sandboxTerminateV2: Handler<'sandboxTerminateV2'> = async ({ sandboxId }) => {
    const sandbox = existing(sandboxId)
    // Answered before it is done, as the real one does: only a wait tells when it is.
    void host.destroy(sandbox.id, 'killed')
    return {}
  }

  const sandboxTagsSetV2: Handler<'sandboxTagsSetV2'> = async ({ sandboxId, tags = [] }) => {
    existing(sandboxId).tags = fromTagList(tags)
    return {}
  }

  const sandboxTagsGetV2: Handler<'sandboxTagsGetV2'> = async ({ sandboxId }) => ({ tags: toTagList(existing(sandboxId).tags) })

  const sandboxListV2: Handler<'sandboxListV2'> = async ({ appId, beforeTimestamp, tags = [] }) => {
    const wanted = Object.entries(fromTagList(tags))
    const page = host
      .list(plan.listDelayMs === 0 ? undefined : Date.now() - plan.listDelayMs)
      .map((hosted) => hosted.details)
      .filter((sandbox) => appId === undefined || appId === '' || sandbox.appId === appId)
      .filter((sandbox) => wanted.every(([name, value]) => sandbox.tags[name] === value))
      .filter((sandbox) => beforeTimestamp === undefined || beforeTimestamp === 0 || sandbox.createdAtSecs < beforeTimestamp)
      .sort((left, right) => right.createdAtSecs - left.createdAtSecs)
      .slice(0, options.pageSize)
    return {
      sandboxes: page.map((sandbox) => ({
        id: sandbox.id,
        createdAt: sandbox.createdAtSecs,
        appId: sandbox.appId,
        name: sandbox.name ?? '',
        timeoutSecs: sandbox.timeoutSecs,
        tags: options.listTags ? toTagList(sandbox.tags) : [],
      })),
    }
  }

  return {
    authTokenGet,
    environmentGetOrCreate,
    appGetOrCreate,
    imageGetOrCreate,
    imageJoinStreaming,
    imageFromId,
    sandboxCreateV2,
    sandboxGetFromNameV2,
    sandboxGetTaskIdV2,
    sandboxGetCommandRouterAccess,
    sandboxWaitV2,
    sandboxTerminateV2,
    sandboxTagsSetV2,
    sandboxTagsGetV2,
    sandboxListV2,
  }
}

function fromTagList(tags: readonly { tagName?: string | undefined; tagValue?: string | undefined }[]): Record<string, string> {
  return Object.fromEntries(tags.map(({ tagName = '', tagValue = '' }) => [tagName, tagValue]))
}

function toTagList(tags: Readonly<Record<string, string>>): { tagName: string; tagValue: string }[] {
  return Object.entries(tags).map(([tagName, tagValue]) => ({ tagName, tagValue }))
}

/** Waits for `promise`, but no longer than `timeoutMs` or than the call lives. */
async function settled(promise: Promise<void>, timeoutMs: number, signal: AbortSignal): Promise<void> {
  let stop = (): void => undefined
  const over = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, timeoutMs)
    stop = () => {
      clearTimeout(timer)
      resolve()
    }
    signal.addEventListener('abort', stop, { once: true })
  })
  await Promise.race([promise, over])
  stop()
}
