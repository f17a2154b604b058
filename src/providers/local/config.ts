import { tmpdir, userInfo } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { z } from 'zod'

const absolutePath = z
  .string()
  .refine(isAbsolute, 'must be an absolute path')
  .refine((path) => !/[\n\0]/.test(path), 'must not hold a line end')

/**
 * This machine as a provider. Sandboxes that ask for no resources of their own get the maxima given here. See
 * ./local-provider.ts on what enforces them.
 */
export const localProviderConfigSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'must be lower-case letters, digits and "-", at most 32')
    .default('local')
    .describe("Unique among the deployment's providers. Providers with different names never see each other's sandboxes."),
  stateDir: absolutePath.optional().describe("Where sandboxes' files are. Default: a folder of this user's for state."),
  isolation: z
    .enum(['auto', 'bubblewrap', 'none'], { error: 'must be "auto", "bubblewrap" or "none"' })
    .default('auto')
    .describe('bubblewrap: namespaces of their own. none: plain processes that see all of this machine. auto: bubblewrap where it works.'),
  network: z
    .enum(['open', 'none'], { error: 'must be "open" or "none"' })
    .default('open')
    .describe('none: no sandbox of this provider gets a network. open: the job says; where pasta works (package passt), "open" is without this machine\'s loopback.'),
  loopbackPorts: z
    .array(z.int().min(1, 'must be from 1 to 65535').max(65_535, 'must be from 1 to 65535'))
    .default([])
    .describe("TCP ports of this machine's loopback that sandboxes with an open network reach, such as a model server's; the git host's is among them by itself."),
  cloudMetadata: z
    .boolean()
    .default(false)
    .describe("Let sandboxes with an open network reach the addresses at which clouds give this machine the keys of its account. false: where the network is the sandbox's own, there is no way there (package iproute2)."),
  nestedNamespaces: z
    .boolean()
    .default(false)
    .describe('Let jobs make namespaces of their own (rootless containers, Chromium with its sandbox). Opens parts of the kernel to them that have had faults.'),
  cpu: z.number().positive('must be more than 0').max(1024).optional().describe('The most CPUs that a sandbox may use.'),
  memoryMiB: z.int('must be a whole number of MiB').min(32, 'must be at least 32').optional().describe('The most memory of a sandbox.'),
  diskMiB: z.int('must be a whole number of MiB').min(16, 'must be at least 16').optional().describe('The most that the files of a sandbox may take together.'),
  maxFiles: z.int().min(1_000, 'must be at least 1000').max(1_000_000_000).default(5_000_000).describe('The most files and folders of a sandbox.'),
  maxProcesses: z.int().min(16, 'must be at least 16').max(1_000_000).default(2048).describe('The most processes and threads of a sandbox.'),
  maxOpenFiles: z.int().min(64, 'must be at least 64').max(1_048_576).default(65_536).describe('The most open files of each process.'),
  cgroups: z
    .boolean()
    .default(true)
    .describe('Limit by cgroups where this user may make some. false: always by the other means.'),
  maxFileMiB: z.int().min(1, 'must be at least 1').optional().describe('The largest single file that a sandbox may write.'),
  maxLifetimeMs: z.int().min(1_000, 'must be at least 1000').optional().describe("The longest lifetime of a sandbox, extensions included."),
  readOnlyPaths: z
    .array(absolutePath)
    .default([])
    .describe('Besides the system (/usr and what belongs to it), Node and npm: folders of this machine that sandboxes may read, such as tools. No folder with keys or sockets.'),
})

/** The configuration as users write it. */
export type LocalProviderOptions = z.input<typeof localProviderConfigSchema>
export type LocalProviderConfig = z.output<typeof localProviderConfigSchema>

/** Where this user's sandboxes are unless configured. */
export function defaultStateDir(): string {
  const root = process.getuid?.() === 0
  const home = process.env['HOME']
  const xdg = process.env['XDG_STATE_HOME']
  if (process.platform === 'linux' && root) return '/var/lib/switchyard/local'
  if (process.platform === 'linux' && xdg !== undefined && isAbsolute(xdg)) return join(xdg, 'switchyard', 'local')
  if (home === undefined || !isAbsolute(home)) return join(tmpdir(), `switchyard-local-${userInfo().uid}`)
  return process.platform === 'darwin'
    ? join(home, 'Library', 'Application Support', 'switchyard', 'local')
    : join(home, '.local', 'state', 'switchyard', 'local')
}
