import { isAbsolute } from 'node:path'
import { z } from 'zod'

const defaultSocketPath = '/var/run/docker.sock'

/** What the Docker adapter takes. Podman is the same, at the socket of `podman system service`. */
export const dockerProviderConfigSchema = z.strictObject({
  type: z.literal('docker').optional(),
  name: z
    .string({ error: 'must be a text' })
    .regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'must be lower-case letters, digits and "-", at most 32')
    .default('docker')
    .describe('The name by which jobs, logs and limits call this provider. Providers with different names never see each other’s containers.'),
  socketPath: z
    .string({ error: 'must be the path of a socket' })
    .refine(isAbsolute, 'must be an absolute path such as "/var/run/docker.sock"')
    .optional()
    .describe('The engine’s API socket. Default: that of DOCKER_HOST when it is a unix:// URL, else /var/run/docker.sock.'),
  image: z
    .string({ error: 'must be a text' })
    .min(1, 'is empty; leave it out for the default')
    .default('buildpack-deps:bookworm-scm')
    .describe('The image of jobs that name none. It needs git, sh and CA certificates, and must be on the engine: nothing is pulled.'),
  user: z.string().min(1, 'is empty; leave it out for the image’s own').optional().describe('The user that commands run as, such as "1000:1000"; the image’s own if left out.'),
  network: z
    .string({ error: 'must be the name of a network of the engine' })
    .min(1, 'is empty; leave it out for "bridge"')
    .default('bridge')
    .describe('The engine’s network for jobs that have one. "host" shares this machine’s own, loopback included.'),
  runtime: z.string().min(1, 'is empty; leave it out for the engine’s own').optional().describe('The OCI runtime, such as "runsc" (gVisor) for code that you do not trust.'),
  cpu: z.number().positive('must be more than 0').optional().describe('The CPUs of a sandbox whose job names none, and the most that one may ask for.'),
  memoryMiB: z.int('must be a whole number of MiB').min(32, 'must be at least 32').optional().describe('Likewise its memory.'),
  newPrivileges: z.boolean().default(false).describe('Let programs such as sudo gain privileges in the container that their caller lacks.'),
  maxProcesses: z.int('must be a whole number').min(16, 'must be at least 16').max(1_000_000).default(4096).describe('The most processes and threads of a sandbox.'),
})

/** As users write it. */
export type DockerProviderConfigInput = z.input<typeof dockerProviderConfigSchema>
/** Checked, defaults filled in. */
export type DockerProviderConfig = z.output<typeof dockerProviderConfigSchema>

export function socketPathOf(config: DockerProviderConfig, environment: Readonly<Record<string, string | undefined>>): string {
  return config.socketPath ?? /^unix:\/\/(\/.*)$/.exec(environment['DOCKER_HOST'] ?? '')?.[1] ?? defaultSocketPath
}
