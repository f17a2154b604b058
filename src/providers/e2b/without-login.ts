import { InfrastructureError } from '../../job/errors.js'
import type { E2bSandbox } from './sdk.js'

type Commands = E2bSandbox['commands']
interface StartRequest {
  readonly process: Readonly<Record<string, unknown>>
}
interface ProcessService {
  start(request: StartRequest, options: unknown): unknown
}

/**
 * The commands of a sandbox, started as they are. The SDK starts everything with `/bin/bash -l -c`: then the profile of the
 * sandbox's user, which a job may write, decides on the PATH, prints into answers, ends the shell or never ends. What starts processes in the
 * SDK is asked for the command itself instead.
 * @throws InfrastructureError `invalid` when the SDK is built otherwise than the one that this was made for.
 */
export function withoutLogin(source: string, commands: Commands, command: { readonly cmd: string; readonly args: readonly string[] }): Commands {
  const service: unknown = Reflect.get(commands, 'rpc')
  if (!isProcessService(service)) {
    throw new InfrastructureError({ kind: 'invalid', source, message: `${source}: exec: this version of the package "e2b" starts commands in another way; install the one that Switchyard was tested with` })
  }
  const direct = new Proxy(service, {
    get: (target, property) => {
      if (property !== 'start') return Reflect.get(target, property) as unknown
      return (request: StartRequest, options: unknown) => target.start({ ...request, process: { ...request.process, ...command } }, options)
    },
  })
  return new Proxy(commands, { get: (target, property, receiver) => (property === 'rpc' ? direct : (Reflect.get(target, property, receiver) as unknown)) })
}

function isProcessService(value: unknown): value is ProcessService {
  return typeof value === 'object' && value !== null && typeof Reflect.get(value, 'start') === 'function'
}
