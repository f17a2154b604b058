/** What Modal knows: apps, images, sandboxes and their commands. No wire in here. */
import { randomBytes, randomUUID } from 'node:crypto'
import type { ModalClient } from 'modal'
import type { EndReason, HostedProcess, SandboxHost } from '../sandbox-host.js'
import type { ExecLog } from './exec-log.js'

type WaitAnswer = Awaited<ReturnType<ModalClient['cpClient']['sandboxWaitV2']>>
type ResultStatus = NonNullable<WaitAnswer['result']>['status']

/** `GenericResult.status` on the wire; the SDK exports no value of its enum. */
const statusNumbers: Readonly<Record<'success' | 'failure' | 'terminated' | 'timeout' | 'internalFailure', unknown>> = {
  success: 1,
  failure: 2,
  terminated: 3,
  timeout: 4,
  internalFailure: 6,
}
export const resultStatus = statusNumbers as Readonly<Record<keyof typeof statusNumbers, ResultStatus>>

export interface ModalSandbox {
  readonly id: string
  readonly taskId: string
  readonly appId: string
  readonly name: string | undefined
  tags: Readonly<Record<string, string>>
  /** Seconds since 1970, no two alike: the listing's pages are cut by it. */
  readonly createdAtSecs: number
  readonly timeoutSecs: number
  /** As it came: the request's `definition`, for tests to look at. */
  readonly definition: unknown
  outboundPolicy: unknown
  readonly execs: Map<string, ModalExec>
  endReason: EndReason | undefined
  readonly ended: Promise<void>
}

export interface ModalExec {
  /** As it was asked for, for tests to look at. */
  readonly timeoutSecs: number | undefined
  readonly stdout: ExecLog
  readonly stderr: ExecLog
  readonly process: HostedProcess
  readonly done: Promise<{ readonly code?: number; readonly signal?: number }>
  stdinOffset: number
}

export type Host = SandboxHost<ModalSandbox>

export class World {
  readonly apps = new Map<string, string>()
  readonly images = new Map<string, { readonly id: string; built: boolean }>()
  readonly sandboxes = new Map<string, ModalSandbox>()
  readonly tokens = new Set<string>()
  private lastCreatedAtSecs = 0

  appId(environment: string, name: string, create: boolean): string | undefined {
    const key = `${environment}/${name}`
    if (!this.apps.has(key) && create) this.apps.set(key, `ap-${alphanumeric(22)}`)
    return this.apps.get(key)
  }

  image(definition: string): { readonly id: string; built: boolean } {
    const image = this.images.get(definition) ?? { id: `im-${alphanumeric(22)}`, built: false }
    this.images.set(definition, image)
    return image
  }

  running(appId: string, name: string): ModalSandbox | undefined {
    return [...this.sandboxes.values()].find((sandbox) => sandbox.appId === appId && sandbox.name === name && sandbox.endReason === undefined)
  }

  byTask(taskId: string): ModalSandbox | undefined {
    return [...this.sandboxes.values()].find((sandbox) => sandbox.taskId === taskId)
  }

  nextCreatedAtSecs(): number {
    this.lastCreatedAtSecs = Math.max(Date.now() / 1000, this.lastCreatedAtSecs + 0.001)
    return this.lastCreatedAtSecs
  }

  /** A token of three parts as the SDK wants it; nothing checks a signature. */
  mintToken(lifetimeSecs: number): string {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const token = `${part({ alg: 'none' })}.${part({ exp: Math.floor(Date.now() / 1000) + lifetimeSecs, jti: randomUUID() })}.none`
    this.tokens.add(token)
    return token
  }
}

/** V2 ids are told from V1's by their shape: V1 has exactly 22 letters and digits after the dash. */
export function newSandboxId(): string {
  return `sb-${alphanumeric(26)}`
}

export function alphanumeric(length: number): string {
  let text = ''
  while (text.length < length) text += randomBytes(length).toString('base64').replaceAll(/[^a-zA-Z0-9]/g, '')
  return text.slice(0, length)
}
