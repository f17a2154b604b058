import type { ErrorOwner } from '../job/errors.js'
import type { SandboxRequest } from './provider.js'

/** Whose an image, a template or a snapshot is that can't be used: the job's when it named one, else the configuration's. */
export function imageOwner(request: Pick<SandboxRequest, 'image'> | undefined): Extract<ErrorOwner, 'job' | 'consumer-configuration'> {
  return request?.image === undefined ? 'consumer-configuration' : 'job'
}
