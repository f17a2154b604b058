import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import type { JobSpec } from '../job/spec.js'
import { accessOf, type AgentQueue } from '../producers/agent-queue.js'
import type { Caller } from './caller.js'
import { forbidden } from './refusal.js'

/** The limits of what a caller may have run (`RunLimits`): their form, and who keeps to them. */

const longestList = 100

export const repositoryPatterns = z
  .array(z.string().max(200, 'is longer than 200 characters').regex(/^([A-Za-z0-9][\w./-]*\*?|\*)$/, 'must be a repository such as "acme/web", or how some begin, such as "acme/*"'))
  .min(1, 'is empty; leave it out for all repositories')
  .max(longestList, `names more than ${longestList} repositories; name what they begin with`)
export const secretNames = z
  .array(z.string().max(200, 'is longer than 200 characters').regex(/^[A-Za-z_]\w*$/, 'must be the name of a variable: letters, digits and "_", no digit first'))
  .max(longestList, `names more than ${longestList} secrets`)

/**
 * For specs as they are about to be enqueued. Those that are wrong are left for the queue to refuse.
 * @throws HttpRefusalError 403.
 */
export function requireMayEnqueue(queue: AgentQueue, caller: Caller, specs: readonly unknown[], place: (index: number) => string = () => ''): void {
  if (isUnlimited(caller)) return
  for (const [index, given] of specs.entries()) {
    let spec: JobSpec
    try {
      // As the queue will hold it, with the defaults that it has.
      spec = accessOf(queue).checkedSpec(given)
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error
      continue
    }
    requireMayRun(caller, spec, place(index))
  }
}

/** For a job that is run again, whoever enqueued it. @throws HttpRefusalError 403. */
export async function requireMayRetry(queue: AgentQueue, caller: Caller, jobId: string): Promise<void> {
  if (isUnlimited(caller)) return
  const spec = await accessOf(queue).storedSpec(jobId)
  // Of a job that the queue does not hold there is nothing to run again.
  if (spec === undefined) return
  // Of one of a later release, or of somebody else's, nobody here knows what it would run.
  if (spec === null) throw forbidden(`the job's spec can't be read here, so that nobody knows whether API key ${caller.id} may have it run; use another key`)
  requireMayRun(caller, spec)
}

/** @param place what stands before the names of the spec's fields. @throws HttpRefusalError 403. */
export function requireMayRun(caller: Caller, spec: JobSpec, place = ''): void {
  const { repositories, secrets } = caller
  if (repositories != null && !repositories.some((pattern) => matches(pattern, spec.repository))) {
    throw forbidden(`${place}repository: "${spec.repository}" is none of those that API key ${caller.id} may have jobs run on; name one of these, or use another key`)
  }
  if (secrets == null) return
  const named = [...spec.secrets.map((name) => ['secrets', name] as const), ...(spec.webhooks ?? []).map(({ secretName }) => ['webhooks', secretName] as const)]
  const foreign = named.find(([, name]) => !secrets.includes(name))
  if (foreign !== undefined) throw forbidden(`${place}${foreign[0]}: "${foreign[1]}" is none of those that API key ${caller.id} may have jobs use; leave it out, or use another key`)
}

/** For what begins jobs whatever they are, or lets others do so. Keys with these limits are no admins'; an application's own users may be. @throws HttpRefusalError 403. */
export function requireNoRunLimits(caller: Caller): void {
  if (!isUnlimited(caller)) throw forbidden(`API key ${caller.id} is limited in what it may have run; this would run any job, or let others do so`)
}

function isUnlimited({ repositories, secrets }: Caller): boolean {
  return repositories == null && secrets == null
}

function matches(pattern: string, repository: string): boolean {
  return pattern.endsWith('*') ? repository.startsWith(pattern.slice(0, -1)) : repository === pattern
}
