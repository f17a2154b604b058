/**
 * The service definitions that the installed `modal` package carries in its own bundle. It does not export them, and
 * the published protos lag behind, so they are taken out of the bundle when a test starts: what an update of the SDK
 * changes on the wire, it changes here too.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { compileFunction } from 'node:vm'
import type { CompatServiceDefinition } from 'nice-grpc'

interface Codec {
  encode(message: object): { finish(): Uint8Array }
}

export interface ModalDefinitions {
  /** The control plane, `modal.client.ModalClient`. */
  readonly controlPlane: CompatServiceDefinition
  /** What runs on a sandbox's worker, `modal.task_command_router.TaskCommandRouter`. */
  readonly commandRouter: CompatServiceDefinition
  readonly rpcStatus: Codec
  readonly retryPolicy: Codec
  readonly version: string
}

const names = { controlPlane: 'ModalClientDefinition', commandRouter: 'TaskCommandRouterDefinition', rpcStatus: 'RPCStatus', retryPolicy: 'RPCRetryPolicy', version: 'SDK_VERSION' }

/** @throws Error when the bundle no longer holds one of them by its name. */
export function loadDefinitions(): ModalDefinitions {
  const path = createRequire(import.meta.url).resolve('modal')
  const wanted = Object.entries(names).map(([key, name]) => `${key}: typeof ${name} === 'undefined' ? undefined : ${name}`)
  const load = compileFunction(`${readFileSync(path, 'utf8')}\n;return { ${wanted.join(', ')} }`, ['exports', 'require', 'module'], { filename: path }) as (
    exports: object,
    require: NodeJS.Require,
    module: object,
  ) => Record<string, unknown>
  const scope = { exports: {} }
  const found = load(scope.exports, createRequire(path), scope)
  for (const [key, name] of Object.entries(names)) {
    if (found[key] === undefined) throw new Error(`the installed modal package no longer holds ${name}; look for its new name in ${path}`)
  }
  // Their shapes are what ts-proto makes; the server uses them through nice-grpc, as the SDK does.
  return found as unknown as ModalDefinitions
}

/** The names of a service's methods as they are called in code, such as `sandboxCreateV2`. */
export function methodNames(definition: CompatServiceDefinition): string[] {
  return Object.keys('methods' in definition ? definition.methods : definition)
}
