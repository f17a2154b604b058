import type { CheckResult, Subject } from './check-result.js'

type Kind = NonNullable<CheckResult['errorKind']>

/** The checks of a provider, in the order in which they are made. */
export const providerChecks = ['credentials', 'create', 'exec', 'clone', 'push', 'lifetime', 'kill', 'delete branch'] as const
export type ProviderCheck = (typeof providerChecks)[number]

/** What to do about a check of a provider that failed with `invalid`, by check: the rest is the same for all of them. */
const invalidAtProvider: Readonly<Record<ProviderCheck, string>> = {
  credentials: 'correct this provider’s entry in the configuration',
  create: 'name an image or template that exists and that this account may use, in this provider’s entry or with --image',
  exec: 'use an image with git, CA certificates and a POSIX shell, or let git be installed: as root, with consumer.installGit',
  clone: 'check that the repository has a commit on its default branch and that sandboxes of this provider reach the git host',
  push: 'check that the git host takes pushes to the branch that is named, and by this key',
  lifetime: 'set maxLifetime in this provider’s entry to what your plan allows',
  kill: 'kill the sandbox that is named by hand, in the provider’s console',
  'delete branch': 'delete the branch that is named by hand',
}

/** What can be done where there is no service with an account, a plan, a console and a status page. Undefined: the same as anywhere. */
const onThisMachine: Readonly<Record<string, (check: string, kind: Kind) => string | undefined>> = {
  local: (check, kind) => {
    if (check === 'kill') return 'end the processes of the sandbox that is named by hand, and remove its folder below stateDir'
    if (check === 'lifetime') return 'run this again; if it stays, look whether this machine is overloaded'
    if (check === 'create' && kind === 'invalid') return 'leave out --image, since sandboxes here have this machine’s own system; or correct this provider’s entry'
    return ofThisMachine(kind, 'what this line says is missing on this machine')
  },
  docker: (check, kind) => {
    if (check === 'kill') return 'remove the container that is named by hand'
    if (check === 'lifetime') return 'run this again; if it stays, look whether the engine’s machine is overloaded'
    if (check === 'create' && kind === 'invalid') return 'name an image that the engine has or can pull, in this provider’s entry or with --image'
    return ofThisMachine(kind, 'whether the engine runs, and whether its address in this provider’s entry is right')
  },
}

function ofThisMachine(kind: Kind, lookAt: string): string | undefined {
  if (kind === 'capacity') return 'end sandboxes, give the machine more room, or lower limit.sandboxes'
  if (kind === 'provider-down' || kind === 'transient') return `look at ${lookAt}`
  if (kind === 'sandbox-lost') return 'run this again; if it stays, look whether the machine is out of memory'
  return kind === 'timeout' ? 'run this again; if it stays, look whether the machine is overloaded' : undefined
}

/** One sentence on what to do about a failure, from what failed and the kind of its error alone. */
export function mendOf(subject: Subject, check: string, kind: Kind): string {
  if (kind === 'internal') return 'this is a defect of Switchyard or of a module of yours; report it with this line'
  if (subject.kind === 'redis') return mendOfRedis(check, kind)
  if (subject.kind === 'git') return mendOfGit(check, kind)
  if (subject.kind === 'artifacts') return mendOfArtifacts(kind)
  return onThisMachine[subject.type ?? '']?.(check, kind) ?? mendOfProvider(check, kind, subject.name)
}

function mendOfRedis(check: string, kind: Kind): string {
  if (kind !== 'invalid') return 'start Redis there, or correct redis.url: host, port, user and password'
  if (check === 'connect') return 'correct the entry "redis" of the configuration'
  return check === 'eviction' ? 'run "CONFIG SET maxmemory-policy noeviction" and write it into Redis’ configuration' : 'run Redis 6.2 or later, or Valkey'
}

function mendOfGit(check: string, kind: Kind): string {
  switch (kind) {
    case 'auth':
      return 'give the git host’s own key or token, where the entry "git" says that it is, and register its public half with the host'
    case 'provider-down':
    case 'timeout':
      return 'check git.url, or storageUrl and apiUrl, and the way there: name, proxy, firewall, certificate'
    case 'rate-limited':
      return 'wait, and run this again'
    case 'invalid':
      return check === 'repository' ? 'name a repository that exists and has a commit on its default branch' : 'correct the entry "git" of the configuration'
    default:
      return 'run this again; if it stays, look at the git host’s status page'
  }
}

function mendOfArtifacts(kind: Kind): string {
  if (kind === 'auth') return 'give a key that may put and get objects in the bucket, where the entry "artifacts" says that it is'
  return kind === 'invalid' ? 'correct the entry "artifacts" of the configuration, or the folder’s rights' : 'check artifacts.s3.endpoint and the way there: name, proxy, firewall, certificate'
}

function mendOfProvider(check: string, kind: Kind, name: string): string {
  if (check === 'kill') return invalidAtProvider.kill
  if (check === 'delete branch') return invalidAtProvider['delete branch']
  switch (kind) {
    case 'auth':
      return check === 'clone' || check === 'push'
        ? 'let the git host’s key read the repository and push its job branches'
        : `put valid credentials of the provider "${name}" into the consumers’ environment, as this line names it`
    case 'invalid':
      return (invalidAtProvider as Readonly<Record<string, string>>)[check] ?? invalidAtProvider.credentials
    case 'capacity':
      return `end sandboxes of the account, raise its limit with the provider, or lower limit.sandboxes of "${name}"`
    case 'rate-limited':
      return 'wait, and run this again'
    case 'provider-down':
      return 'look at the provider’s status page, and check the URL of its entry and the way there: name, proxy, firewall'
    case 'timeout':
      return `run this again; if it stays, look at the provider’s status page or raise ${check === 'create' ? 'consumer.createTimeoutMs' : 'consumer.callTimeoutMs'}`
    case 'sandbox-lost':
      return 'run this again; if it stays, look at the provider’s console for why its sandboxes end'
    default:
      return 'run this again; if it stays, look at the provider’s status page'
  }
}
