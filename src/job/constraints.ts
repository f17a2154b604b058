import { createHash } from 'node:crypto'
import { z } from 'zod'
import { leastPaidMs } from './budget.js'
import { needsInjection, networkPolicy, type JobSpec } from './spec.js'

/**
 * What decides where a job can run: kept beside the queue, so that a place is found for a job before it is taken. Many jobs
 * share one set of constraints.
 */
export const constraintsSchema = z.object({
  providers: z.object({ allow: z.array(z.string()).optional(), prefer: z.array(z.string()), deny: z.array(z.string()) }),
  network: networkPolicy,
  resources: z.object({ cpu: z.number().optional(), memoryMiB: z.number().optional(), diskMiB: z.number().optional() }),
  image: z.string().optional(),
  /** Names, in order; left out when there are none. */
  secrets: z.array(z.string()).optional(),
  /** Whether it needs a provider that adds headers to requests; left out when it does not. */
  injects: z.literal(true).optional(),
  /** Whether one of its steps has a `resume`; left out when none has. */
  resumes: z.literal(true).optional(),
  /** What its first sandbox is to be paid for at the least, in milliseconds: of `leastPaidMs`; left out for a job that has begun. */
  paidMs: z.int().min(0).optional(),
  /** What it takes of a provider's pool: vCPUs in thousandths. */
  milliCpu: z.int().min(0),
  memoryMiB: z.int().min(0),
})
export type Constraints = z.output<typeof constraintsSchema>

/** What stands for an image: providers tell these from one another before they are asked for a sandbox. One that refuses a single image is found when it is placed. */
const snapshotPrefix = 'snapshot:'
function imageKind(image: string | undefined): string | undefined {
  if (image === undefined) return undefined
  return image.startsWith(snapshotPrefix) ? `${snapshotPrefix}any` : 'any'
}

/**
 * The constraints of a job, and an id that is the same for the same constraints: 16 hexadecimal digits. Of its image only the kind counts.
 * @param begun it has a run: what it needs next its record alone says.
 */
export function constraintsOf(spec: Pick<JobSpec, 'providers' | 'network' | 'resources' | 'image' | 'secrets' | 'injects' | 'steps' | 'push' | 'timeoutMs'>, begun = false): { readonly id: string; readonly constraints: Constraints } {
  const { providers, network, resources } = spec
  const image = imageKind(spec.image)
  const secrets = spec.secrets.length === 0 ? undefined : [...new Set(spec.secrets)].sort()
  const injects = needsInjection(spec.injects) ? (true as const) : undefined
  const resuming = resumes(spec) ? (true as const) : undefined
  const constraints = { providers, network, resources, image, secrets, injects, resumes: resuming, paidMs: begun ? undefined : leastPaidMs(spec), milliCpu: Math.round((resources.cpu ?? 0) * 1000), memoryMiB: resources.memoryMiB ?? 0 }
  return { id: createHash('sha256').update(JSON.stringify(constraints)).digest('hex').slice(0, 16), constraints }
}

/** Whether a step of the job goes on, after a move, from what it remembers. */
export function resumes({ steps }: Pick<JobSpec, 'steps'>): boolean {
  return steps.some(({ resume }) => resume !== undefined)
}
