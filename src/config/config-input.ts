// Made by script/write-config-types.ts out of the schemas, which say what is checked; a change belongs there.
import type { z } from 'zod'
import type { codeStorageConfigSchema, httpsGitConfigSchema } from '../git/config.js'
import type { daytonaProviderConfigSchema } from '../providers/daytona/config.js'
import type { dockerProviderConfigSchema } from '../providers/docker/config.js'
import type { e2bProviderConfigSchema } from '../providers/e2b/config.js'
import type { localProviderConfigSchema } from '../providers/local/config.js'
import type { modalProviderConfigSchema } from '../providers/modal/config.js'
import type { configSchema, providerEntrySchema } from './schema.js'

type Whole = z.input<typeof configSchema>
type Entry = z.input<typeof providerEntrySchema>

/** What every provider's entry has. */
export interface EntryInput {
  /** By which jobs, logs and limits call this provider. */
  name: Entry['name']
  /** What all consumers together may use of it. */
  limit: {
    /** How many sandboxes may run at once, of all consumers together. */
    sandboxes: NonNullable<Entry['limit']>['sandboxes']
    /** CPUs of all sandboxes together, where a pool of them is sold. */
    cpu?: NonNullable<Entry['limit']>['cpu'] | undefined
    /** Memory of all sandboxes together, where a pool of it is sold. */
    memoryMiB?: NonNullable<Entry['limit']>['memoryMiB'] | undefined
    /** How many sandboxes are made a second, where the provider limits that. */
    createsPerSecond?: NonNullable<Entry['limit']>['createsPerSecond'] | undefined
    /** How many may be made at once after a quiet time. Default: those of one second. */
    createBurst?: NonNullable<Entry['limit']>['createBurst'] | undefined
  }
  /** What its sandboxes cost; see docs/budgets.md. */
  price?: {
    /** For each hour of a sandbox, in the currency of costs. */
    perSandboxHour?: NonNullable<Entry['price']>['perSandboxHour'] | undefined
    /** For each CPU of it and hour. */
    perCpuHour?: NonNullable<Entry['price']>['perCpuHour'] | undefined
    /** For each GiB of its memory and hour. */
    perMemoryGiBHour?: NonNullable<Entry['price']>['perMemoryGiBHour'] | undefined
    /** For each sandbox that is made. */
    perCreate?: NonNullable<Entry['price']>['perCreate'] | undefined
    /** What is billed at least of each sandbox. */
    minimumSeconds?: NonNullable<Entry['price']>['minimumSeconds'] | undefined
  } | undefined
  /** Where the git host’s tokens go. Default "minted". */
  credentials?: Entry['credentials'] | undefined
}

/** A provider's entry: local. */
export interface LocalEntry extends EntryInput {
  type: 'local'
  /** Where sandboxes' files are. Default: a folder of this user's for state. */
  stateDir?: z.input<typeof localProviderConfigSchema>['stateDir'] | undefined
  /** bubblewrap: namespaces of their own. none: plain processes that see all of this machine. auto: bubblewrap where it works. */
  isolation?: z.input<typeof localProviderConfigSchema>['isolation'] | undefined
  /** none: no sandbox of this provider gets a network. open: the job says; where pasta works (package passt), "open" is without this machine's loopback. */
  network?: z.input<typeof localProviderConfigSchema>['network'] | undefined
  /** TCP ports of this machine's loopback that sandboxes with an open network reach, such as a model server's; the git host's is among them by itself. */
  loopbackPorts?: z.input<typeof localProviderConfigSchema>['loopbackPorts'] | undefined
  /** Let sandboxes with an open network reach the addresses at which clouds give this machine the keys of its account. false: where the network is the sandbox's own, there is no way there (package iproute2). */
  cloudMetadata?: z.input<typeof localProviderConfigSchema>['cloudMetadata'] | undefined
  /** Let jobs make namespaces of their own (rootless containers, Chromium with its sandbox). Opens parts of the kernel to them that have had faults. */
  nestedNamespaces?: z.input<typeof localProviderConfigSchema>['nestedNamespaces'] | undefined
  /** The most CPUs that a sandbox may use. */
  cpu?: z.input<typeof localProviderConfigSchema>['cpu'] | undefined
  /** The most memory of a sandbox. */
  memoryMiB?: z.input<typeof localProviderConfigSchema>['memoryMiB'] | undefined
  /** The most that the files of a sandbox may take together. */
  diskMiB?: z.input<typeof localProviderConfigSchema>['diskMiB'] | undefined
  /** The most files and folders of a sandbox. */
  maxFiles?: z.input<typeof localProviderConfigSchema>['maxFiles'] | undefined
  /** The most processes and threads of a sandbox. */
  maxProcesses?: z.input<typeof localProviderConfigSchema>['maxProcesses'] | undefined
  /** The most open files of each process. */
  maxOpenFiles?: z.input<typeof localProviderConfigSchema>['maxOpenFiles'] | undefined
  /** Limit by cgroups where this user may make some. false: always by the other means. */
  cgroups?: z.input<typeof localProviderConfigSchema>['cgroups'] | undefined
  /** The largest single file that a sandbox may write. */
  maxFileMiB?: z.input<typeof localProviderConfigSchema>['maxFileMiB'] | undefined
  /** The longest lifetime of a sandbox, extensions included. */
  maxLifetimeMs?: z.input<typeof localProviderConfigSchema>['maxLifetimeMs'] | undefined
  /** Besides the system (/usr and what belongs to it), Node and npm: folders of this machine that sandboxes may read, such as tools. No folder with keys or sockets. */
  readOnlyPaths?: z.input<typeof localProviderConfigSchema>['readOnlyPaths'] | undefined
}

/** A provider's entry: e2b. */
export interface E2bEntry extends EntryInput {
  type: 'e2b'
  /** The environment variable that holds the API key. */
  apiKeyEnv?: z.input<typeof e2bProviderConfigSchema>['apiKeyEnv'] | undefined
  /** The template of jobs that name no image. It needs git, sh and CA certificates; "base" has them. */
  template?: z.input<typeof e2bProviderConfigSchema>['template'] | undefined
  /** What your templates were built with. A job that asks for more than its template has is refused; for others its resources are ignored. */
  templates?: z.input<typeof e2bProviderConfigSchema>['templates'] | undefined
  /** The user that commands run as; the template’s own if left out. */
  user?: z.input<typeof e2bProviderConfigSchema>['user'] | undefined
  /** The API of a self-hosted E2B; E2B_API_URL or E2B’s own if left out. */
  apiUrl?: z.input<typeof e2bProviderConfigSchema>['apiUrl'] | undefined
  /** The address of a self-hosted E2B’s sandboxes; E2B_SANDBOX_URL or E2B’s own if left out. */
  sandboxUrl?: z.input<typeof e2bProviderConfigSchema>['sandboxUrl'] | undefined
  /** The longest lifetime that your plan allows: 1h on Hobby (the default here), 24h on Pro. E2B counts it from the sandbox’s start. */
  maxLifetime?: z.input<typeof e2bProviderConfigSchema>['maxLifetime'] | undefined
}

/** A provider's entry: modal. */
export interface ModalEntry extends EntryInput {
  type: 'modal'
  /** The Modal app that holds the sandboxes; made with the first one if it does not exist. */
  app?: z.input<typeof modalProviderConfigSchema>['app'] | undefined
  /** The image of jobs that name none: a registry tag, or the id of an image of Modal’s (im-…). It needs git, sh and CA certificates. */
  image?: z.input<typeof modalProviderConfigSchema>['image'] | undefined
  /** Modal’s environment; the workspace’s default if left out. */
  environment?: z.input<typeof modalProviderConfigSchema>['environment'] | undefined
  /** The environment variable that holds the token’s id. */
  tokenIdEnv?: z.input<typeof modalProviderConfigSchema>['tokenIdEnv'] | undefined
  /** The environment variable that holds the token’s secret. */
  tokenSecretEnv?: z.input<typeof modalProviderConfigSchema>['tokenSecretEnv'] | undefined
  /** Modal’s API; MODAL_SERVER_URL or Modal’s own if left out. */
  serverUrl?: z.input<typeof modalProviderConfigSchema>['serverUrl'] | undefined
  /** Where sandboxes may run, such as us-east. */
  regions?: z.input<typeof modalProviderConfigSchema>['regions'] | undefined
  /** The cloud to run on, such as aws. */
  cloud?: z.input<typeof modalProviderConfigSchema>['cloud'] | undefined
  /** Create sandboxes so that headers can be added to their traffic outside of them (Modal’s experimental outbound policy). Modal does it for HTTPS only, and not beside a list of allowed host names. */
  injectHeaders?: z.input<typeof modalProviderConfigSchema>['injectHeaders'] | undefined
  /** The most that one sandbox may have: Modal’s own maxima if left out. A job that asks for more is not sent here. */
  maxResources?: {
    cpu?: NonNullable<z.input<typeof modalProviderConfigSchema>['maxResources']>['cpu'] | undefined
    memoryMiB?: NonNullable<z.input<typeof modalProviderConfigSchema>['maxResources']>['memoryMiB'] | undefined
    diskMiB?: NonNullable<z.input<typeof modalProviderConfigSchema>['maxResources']>['diskMiB'] | undefined
  } | undefined
  /** The longest lifetime to ask for. Modal can’t extend one later. */
  maxLifetime?: z.input<typeof modalProviderConfigSchema>['maxLifetime'] | undefined
}

/** A provider's entry: daytona. */
export interface DaytonaEntry extends EntryInput {
  type: 'daytona'
  /** The environment variable that holds the API key. */
  apiKeyEnv?: z.input<typeof daytonaProviderConfigSchema>['apiKeyEnv'] | undefined
  /** The API's base URL. Always given to the SDK, so that no file of the working folder can redirect the key. */
  apiUrl?: z.input<typeof daytonaProviderConfigSchema>['apiUrl'] | undefined
  /** The region; the organisation's default if left out. */
  target?: z.input<typeof daytonaProviderConfigSchema>['target'] | undefined
  /** The snapshot for jobs that name no image; the organisation's default if left out. */
  snapshot?: z.input<typeof daytonaProviderConfigSchema>['snapshot'] | undefined
  /** The container image for jobs that name none. Needed for jobs that set resources. */
  image?: z.input<typeof daytonaProviderConfigSchema>['image'] | undefined
  /** Whether its runners enforce lists of host names. Those of a self-hosted Daytona up to 0.190 leave the network open instead. Left out, `doctor` or the first sandbox with such a list finds out, by trying to reach Daytona’s API; false sends such jobs elsewhere at once, true tries nothing. */
  enforcesNames?: z.input<typeof daytonaProviderConfigSchema>['enforcesNames'] | undefined
  /** Secrets that the organisation keeps, by the names that jobs with `inject` have for them, such as { "ANTHROPIC_API_KEY": "anthropic-prod" }. Sandboxes get Daytona’s placeholder, for which Daytona puts in the value on the way to the hosts of its secret. */
  secrets?: z.input<typeof daytonaProviderConfigSchema>['secrets'] | undefined
  /** The most that one sandbox of the organisation may have, when you know it. A job that asks for more is not sent here. */
  maxResources?: {
    cpu?: NonNullable<z.input<typeof daytonaProviderConfigSchema>['maxResources']>['cpu'] | undefined
    memoryMiB?: NonNullable<z.input<typeof daytonaProviderConfigSchema>['maxResources']>['memoryMiB'] | undefined
    diskMiB?: NonNullable<z.input<typeof daytonaProviderConfigSchema>['maxResources']>['diskMiB'] | undefined
  } | undefined
  /** The longest lifetime that the organisation allows a sandbox, when it has such a limit. */
  maxLifetime?: z.input<typeof daytonaProviderConfigSchema>['maxLifetime'] | undefined
}

/** A provider's entry: docker. */
export interface DockerEntry extends EntryInput {
  type: 'docker'
  /** The engine’s API socket. Default: that of DOCKER_HOST when it is a unix:// URL, else /var/run/docker.sock. */
  socketPath?: z.input<typeof dockerProviderConfigSchema>['socketPath'] | undefined
  /** The image of jobs that name none. It needs git, sh and CA certificates, and must be on the engine: nothing is pulled. */
  image?: z.input<typeof dockerProviderConfigSchema>['image'] | undefined
  /** The user that commands run as, such as "1000:1000"; the image’s own if left out. */
  user?: z.input<typeof dockerProviderConfigSchema>['user'] | undefined
  /** The engine’s network for jobs that have one. "host" shares this machine’s own, loopback included. */
  network?: z.input<typeof dockerProviderConfigSchema>['network'] | undefined
  /** The OCI runtime, such as "runsc" (gVisor) for code that you do not trust. */
  runtime?: z.input<typeof dockerProviderConfigSchema>['runtime'] | undefined
  /** The CPUs of a sandbox whose job names none, and the most that one may ask for. */
  cpu?: z.input<typeof dockerProviderConfigSchema>['cpu'] | undefined
  /** Likewise its memory. */
  memoryMiB?: z.input<typeof dockerProviderConfigSchema>['memoryMiB'] | undefined
  /** Let programs such as sudo gain privileges in the container that their caller lacks. */
  newPrivileges?: z.input<typeof dockerProviderConfigSchema>['newPrivileges'] | undefined
  /** The most processes and threads of a sandbox. */
  maxProcesses?: z.input<typeof dockerProviderConfigSchema>['maxProcesses'] | undefined
}

/** A provider of your own: a module that makes it. */
export interface CustomEntry extends EntryInput {
  type: 'custom'
  /** The path of the module whose default makes the provider, relative to the configuration. */
  module: string
  /** What it is given. */
  options?: Record<string, unknown> | undefined
}

/** The git host: code-storage. */
export interface CodeStorageInput {
  type: 'code-storage'
  /** By which logs and errors call it. */
  name?: z.input<typeof codeStorageConfigSchema>['name'] | undefined
  /** Your organisation’s name there. */
  org: z.input<typeof codeStorageConfigSchema>['org']
  /** The file that holds the key that signs tokens. */
  privateKeyFile?: z.input<typeof codeStorageConfigSchema>['privateKeyFile'] | undefined
  /** The environment variable that holds the key. Default PIERRE_PRIVATE_KEY. */
  privateKeyEnv?: z.input<typeof codeStorageConfigSchema>['privateKeyEnv'] | undefined
  /** How tokens are signed. */
  algorithm?: z.input<typeof codeStorageConfigSchema>['algorithm'] | undefined
  /** The key’s id in the tokens. */
  kid?: z.input<typeof codeStorageConfigSchema>['kid'] | undefined
  /** Where git is spoken to, where it is not https://ORG.code.storage. */
  storageUrl?: z.input<typeof codeStorageConfigSchema>['storageUrl'] | undefined
  /** Where the API is, where it is not Code Storage’s own. */
  apiUrl?: z.input<typeof codeStorageConfigSchema>['apiUrl'] | undefined
  /** Which addresses of the API are called: /api/v1, or /api/repos, which its maker prefers. */
  apiPaths?: z.input<typeof codeStorageConfigSchema>['apiPaths'] | undefined
  /** Whom a promotion’s merge commit names as its author. */
  mergeAuthor?: {
    /** A name as in a commit. */
    name: NonNullable<z.input<typeof codeStorageConfigSchema>['mergeAuthor']>['name']
    /** An address as in a commit. */
    email: NonNullable<z.input<typeof codeStorageConfigSchema>['mergeAuthor']>['email']
  } | undefined
  /** Work is signed with a key that no sandbox sees; see docs/security.md. */
  signing?: {
    /** What kind of key signs. */
    format?: NonNullable<z.input<typeof codeStorageConfigSchema>['signing']>['format'] | undefined
    /** add: the commit that Switchyard adds is signed; rewrite: the job’s commits are made anew, each signed. */
    mode?: NonNullable<z.input<typeof codeStorageConfigSchema>['signing']>['mode'] | undefined
    /** The file that holds the key. */
    keyFile?: NonNullable<z.input<typeof codeStorageConfigSchema>['signing']>['keyFile'] | undefined
    /** The environment variable that holds the key. */
    keyEnv?: NonNullable<z.input<typeof codeStorageConfigSchema>['signing']>['keyEnv'] | undefined
    /** Whom signed commits name as their committer. */
    committer?: {
      /** A name as in a commit. */
      name: NonNullable<NonNullable<z.input<typeof codeStorageConfigSchema>['signing']>['committer']>['name']
      /** An address as in a commit. */
      email: NonNullable<NonNullable<z.input<typeof codeStorageConfigSchema>['signing']>['committer']>['email']
    } | undefined
    /** Whether what a promotion puts on its target is checked there to be signed. */
    verifyAtTarget?: NonNullable<z.input<typeof codeStorageConfigSchema>['signing']>['verifyAtTarget'] | undefined
    /** Whether a statement of where the work came from is signed and kept beside it. */
    provenance?: NonNullable<z.input<typeof codeStorageConfigSchema>['signing']>['provenance'] | undefined
    /** Older keys, whose signatures are good as well. */
    publicKeys?: NonNullable<z.input<typeof codeStorageConfigSchema>['signing']>['publicKeys'] | undefined
  } | undefined
}

/** The git host: https. */
export interface HttpsInput {
  type: 'https'
  /** By which logs and errors call it. */
  name?: z.input<typeof httpsGitConfigSchema>['name'] | undefined
  /** The host’s address; repositories are beneath it. */
  url: z.input<typeof httpsGitConfigSchema>['url']
  /** A function that makes tokens: (repository, "read" or "write") => Promise<{ username, token }>. */
  token?: z.input<typeof httpsGitConfigSchema>['token'] | undefined
  /** The environment variable that holds one token for everything. A callback that makes short-lived ones is safer. */
  tokenEnv?: z.input<typeof httpsGitConfigSchema>['tokenEnv'] | undefined
  /** The user name that goes with tokenEnv. */
  username?: z.input<typeof httpsGitConfigSchema>['username'] | undefined
  /** The host’s own API, for pull requests. Known for github.com, gitlab.com and bitbucket.org. */
  api?: {
    /** Whose API it is. */
    kind: NonNullable<z.input<typeof httpsGitConfigSchema>['api']>['kind']
    /** Base of the API, where it is not where such hosts have it. */
    url?: NonNullable<z.input<typeof httpsGitConfigSchema>['api']>['url'] | undefined
    /** The environment variable that holds a key for the API alone. Left out: the token that pushes. */
    tokenEnv?: NonNullable<z.input<typeof httpsGitConfigSchema>['api']>['tokenEnv'] | undefined
    /** The user name that goes with tokenEnv at Bitbucket. */
    username?: NonNullable<z.input<typeof httpsGitConfigSchema>['api']>['username'] | undefined
  } | undefined
  /** Whom a promotion’s merge commit names as its author. */
  mergeAuthor?: {
    /** A name as in a commit. */
    name: NonNullable<z.input<typeof httpsGitConfigSchema>['mergeAuthor']>['name']
    /** An address as in a commit. */
    email: NonNullable<z.input<typeof httpsGitConfigSchema>['mergeAuthor']>['email']
  } | undefined
  /** Work is signed with a key that no sandbox sees; see docs/security.md. */
  signing?: {
    /** What kind of key signs. */
    format?: NonNullable<z.input<typeof httpsGitConfigSchema>['signing']>['format'] | undefined
    /** add: the commit that Switchyard adds is signed; rewrite: the job’s commits are made anew, each signed. */
    mode?: NonNullable<z.input<typeof httpsGitConfigSchema>['signing']>['mode'] | undefined
    /** The file that holds the key. */
    keyFile?: NonNullable<z.input<typeof httpsGitConfigSchema>['signing']>['keyFile'] | undefined
    /** The environment variable that holds the key. */
    keyEnv?: NonNullable<z.input<typeof httpsGitConfigSchema>['signing']>['keyEnv'] | undefined
    /** Whom signed commits name as their committer. */
    committer?: {
      /** A name as in a commit. */
      name: NonNullable<NonNullable<z.input<typeof httpsGitConfigSchema>['signing']>['committer']>['name']
      /** An address as in a commit. */
      email: NonNullable<NonNullable<z.input<typeof httpsGitConfigSchema>['signing']>['committer']>['email']
    } | undefined
    /** Whether what a promotion puts on its target is checked there to be signed. */
    verifyAtTarget?: NonNullable<z.input<typeof httpsGitConfigSchema>['signing']>['verifyAtTarget'] | undefined
    /** Whether a statement of where the work came from is signed and kept beside it. */
    provenance?: NonNullable<z.input<typeof httpsGitConfigSchema>['signing']>['provenance'] | undefined
    /** Older keys, whose signatures are good as well. */
    publicKeys?: NonNullable<z.input<typeof httpsGitConfigSchema>['signing']>['publicKeys'] | undefined
  } | undefined
}

/** The configuration as users write it. Every field has a default, but a consumer needs `git` and `providers`. */
export interface ConfigInput {
  /** Marks this deployment’s sandboxes at the providers. Two deployments that share an account need two names. */
  deployment?: Whole['deployment'] | undefined
  /** Redis or Valkey, with maxmemory-policy noeviction: by its URL, by Sentinels or as a Cluster; see docs/redis.md. */
  redis?: {
    /** redis://, rediss:// (TLS) or the path of a UNIX socket. Default redis://127.0.0.1:6379, unless sentinel or cluster is given. */
    url?: NonNullable<Whole['redis']>['url'] | undefined
    /** The primary that Sentinels name, instead of a URL. */
    sentinel?: {
      /** The sentinels, as HOST:PORT; one that answers is enough. */
      nodes: NonNullable<NonNullable<Whole['redis']>['sentinel']>['nodes']
      /** The primary’s name, as in "sentinel monitor NAME". */
      name: NonNullable<NonNullable<Whole['redis']>['sentinel']>['name']
      /** The sentinels’ own user. */
      username?: NonNullable<NonNullable<Whole['redis']>['sentinel']>['username'] | undefined
      /** The sentinels’ own password; Redis’ is redis.password. */
      password?: NonNullable<NonNullable<Whole['redis']>['sentinel']>['password'] | undefined
      /** Where that password stands. */
      passwordFile?: NonNullable<NonNullable<Whole['redis']>['sentinel']>['passwordFile'] | undefined
      /** TLS to the sentinels. To Redis: redis.tls. */
      tls?: {
        /** The authorities that may sign Redis’ certificate, instead of the system’s. */
        caFile?: NonNullable<NonNullable<NonNullable<Whole['redis']>['sentinel']>['tls']>['caFile'] | undefined
        /** As caFile, the text itself. */
        ca?: NonNullable<NonNullable<NonNullable<Whole['redis']>['sentinel']>['tls']>['ca'] | undefined
        /** The client’s certificate, where Redis asks for one (tls-auth-clients). */
        certFile?: NonNullable<NonNullable<NonNullable<Whole['redis']>['sentinel']>['tls']>['certFile'] | undefined
        /** As certFile, the text itself. */
        cert?: NonNullable<NonNullable<NonNullable<Whole['redis']>['sentinel']>['tls']>['cert'] | undefined
        /** The key of the client’s certificate. */
        keyFile?: NonNullable<NonNullable<NonNullable<Whole['redis']>['sentinel']>['tls']>['keyFile'] | undefined
        /** As keyFile, the text itself. */
        key?: NonNullable<NonNullable<NonNullable<Whole['redis']>['sentinel']>['tls']>['key'] | undefined
        /** The passphrase of that key. */
        keyPassphrase?: NonNullable<NonNullable<NonNullable<Whole['redis']>['sentinel']>['tls']>['keyPassphrase'] | undefined
        /** The name that is looked for in Redis’ certificate. Default: the host that is dialled. */
        serverName?: NonNullable<NonNullable<NonNullable<Whole['redis']>['sentinel']>['tls']>['serverName'] | undefined
        /** Whether Redis’ certificate is checked. Default true; false is for trying things out. */
        rejectUnauthorized?: NonNullable<NonNullable<NonNullable<Whole['redis']>['sentinel']>['tls']>['rejectUnauthorized'] | undefined
      } | undefined
      /** Where what the servers call HOST:PORT is from here, each as HOST:PORT. */
      natMap?: NonNullable<NonNullable<Whole['redis']>['sentinel']>['natMap'] | undefined
    } | undefined
    /** A Redis Cluster, instead of a URL. */
    cluster?: {
      /** Some of the Cluster’s nodes, as HOST:PORT, or its configuration endpoint; the others are learned from them. */
      nodes: NonNullable<NonNullable<Whole['redis']>['cluster']>['nodes']
      /** Where what the servers call HOST:PORT is from here, each as HOST:PORT. */
      natMap?: NonNullable<NonNullable<Whole['redis']>['cluster']>['natMap'] | undefined
      /** "as-is" dials names as they are, for endpoints whose certificate is for the name (ElastiCache, MemoryDB). Default "system". */
      dnsLookup?: NonNullable<NonNullable<Whole['redis']>['cluster']>['dnsLookup'] | undefined
    } | undefined
    /** The Redis user (ACL); wins over the URL’s. */
    username?: NonNullable<Whole['redis']>['username'] | undefined
    /** Wins over the URL’s. Better in SWITCHYARD_REDIS_PASSWORD or passwordFile than in a file that is checked in. */
    password?: NonNullable<Whole['redis']>['password'] | undefined
    /** Read when a connection is opened. */
    passwordFile?: NonNullable<Whole['redis']>['passwordFile'] | undefined
    /** The database; a Cluster has only 0. */
    db?: NonNullable<Whole['redis']>['db'] | undefined
    /** TLS: a private authority, a client’s certificate. {} is TLS with the system’s authorities, as rediss:// is. */
    tls?: {
      /** The authorities that may sign Redis’ certificate, instead of the system’s. */
      caFile?: NonNullable<NonNullable<Whole['redis']>['tls']>['caFile'] | undefined
      /** As caFile, the text itself. */
      ca?: NonNullable<NonNullable<Whole['redis']>['tls']>['ca'] | undefined
      /** The client’s certificate, where Redis asks for one (tls-auth-clients). */
      certFile?: NonNullable<NonNullable<Whole['redis']>['tls']>['certFile'] | undefined
      /** As certFile, the text itself. */
      cert?: NonNullable<NonNullable<Whole['redis']>['tls']>['cert'] | undefined
      /** The key of the client’s certificate. */
      keyFile?: NonNullable<NonNullable<Whole['redis']>['tls']>['keyFile'] | undefined
      /** As keyFile, the text itself. */
      key?: NonNullable<NonNullable<Whole['redis']>['tls']>['key'] | undefined
      /** The passphrase of that key. */
      keyPassphrase?: NonNullable<NonNullable<Whole['redis']>['tls']>['keyPassphrase'] | undefined
      /** The name that is looked for in Redis’ certificate. Default: the host that is dialled. */
      serverName?: NonNullable<NonNullable<Whole['redis']>['tls']>['serverName'] | undefined
      /** Whether Redis’ certificate is checked. Default true; false is for trying things out. */
      rejectUnauthorized?: NonNullable<NonNullable<Whole['redis']>['tls']>['rejectUnauthorized'] | undefined
    } | undefined
    /** How long connecting may take, the TLS handshake included. Default 5000. */
    connectTimeoutMs?: NonNullable<Whole['redis']>['connectTimeoutMs'] | undefined
    /** After how long without an answer a connection counts as dead. Default 10000, 3000 for producers. */
    answerTimeoutMs?: NonNullable<Whole['redis']>['answerTimeoutMs'] | undefined
    /** After how long without traffic the system asks whether the other side is there. Default 10000. */
    keepAliveMs?: NonNullable<Whole['redis']>['keepAliveMs'] | undefined
    /** The version of IP. Default: whichever the name has. */
    family?: NonNullable<Whole['redis']>['family'] | undefined
  } | undefined
  queue?: {
    /** The BullMQ queue. */
    name?: NonNullable<Whole['queue']>['name'] | undefined
    /** Before every key of the deployment; the braces keep them in one slot of a Cluster. */
    prefix?: NonNullable<Whole['queue']>['prefix'] | undefined
  } | undefined
  /** Where the repositories live. Consumers need it; producers do not. */
  git?: CodeStorageInput | HttpsInput | undefined
  /** Where the files go that jobs name as artifacts: a folder, or S3. */
  artifacts?: Whole['artifacts'] | undefined
  /** Where sandboxes run. Consumers need at least one; producers none. */
  providers?: (LocalEntry | E2bEntry | ModalEntry | DaytonaEntry | DockerEntry | CustomEntry)[] | undefined
  /** Variables that stand in files: keys of the git host and of providers, and secrets. They are read anew at each use, so keys change without a restart. */
  keyFiles?: Whole['keyFiles'] | undefined
  /** How to choose among providers with room, after the job’s own preference. */
  placement?: {
    /** most-free, priority (the order of providers), cheapest, fastest (by measured starts), or in a .ts a function (candidates, job) => names. */
    policy?: NonNullable<Whole['placement']>['policy'] | undefined
  } | undefined
  /** How what sandboxes cost is counted; their prices are the providers’. All processes of a deployment say the same. */
  costs?: {
    /** What all prices and budgets are in. */
    currency?: NonNullable<Whole['costs']>['currency'] | undefined
    /** By whose days costs are counted, and budgets hold. */
    timeZone?: NonNullable<Whole['costs']>['timeZone'] | undefined
    /** What the sandboxes of a tenant may cost a day; "*" stands for each that is not named, "" for the jobs that name none. */
    budgets?: NonNullable<Whole['costs']>['budgets'] | undefined
  } | undefined
  /** How tenants share the places; "*" stands for all that are not named. Weights are relative; a cap is the most jobs at once. */
  tenants?: Whole['tenants'] | undefined
  /** How consumers behave. Milliseconds and bytes. */
  consumer?: {
    /** How many jobs one process supervises at most. */
    maxJobs?: NonNullable<Whole['consumer']>['maxJobs'] | undefined
    /** How long a job stays this consumer’s without a renewal; it is renewed every third of that. */
    leaseMs?: NonNullable<Whole['consumer']>['leaseMs'] | undefined
    /** For how long what a job with a budget costs is reserved at a time, again each third of it: what is left is the time to park it in. */
    budgetPeriodMs?: NonNullable<Whole['consumer']>['budgetPeriodMs'] | undefined
    /** How often jobs whose consumer died are looked for. With leaseMs this bounds the stall window. */
    stallCheckMs?: NonNullable<Whole['consumer']>['stallCheckMs'] | undefined
    /** How long no live consumer may be able to run a job before it fails, or goes on elsewhere when it has begun. Default: four times leaseMs, in which a consumer that is restarted announces itself again. */
    unrunnableGraceMs?: NonNullable<Whole['consumer']>['unrunnableGraceMs'] | undefined
    /** How long a loop of a consumer may take longer than its longest round before /healthz calls it stuck; time in which Redis is away does not count. */
    stuckAfterMs?: NonNullable<Whole['consumer']>['stuckAfterMs'] | undefined
    /** How often a consumer looks for work and room without having been woken. */
    pollMs?: NonNullable<Whole['consumer']>['pollMs'] | undefined
    /** How long one read waits in the sandbox for output. */
    readWaitMs?: NonNullable<Whole['consumer']>['readWaitMs'] | undefined
    /** The most output that one read brings. */
    readBytes?: NonNullable<Whole['consumer']>['readBytes'] | undefined
    /** Between TERM and KILL when a step is stopped. */
    stopGraceMs?: NonNullable<Whole['consumer']>['stopGraceMs'] | undefined
    /** Whether git and CA certificates are installed in sandboxes whose image lacks them, as root and through its package manager. */
    installGit?: NonNullable<Whole['consumer']>['installGit'] | undefined
    /** How long installing git and CA certificates may take. */
    installTimeoutMs?: NonNullable<Whole['consumer']>['installTimeoutMs'] | undefined
    /** The deadline of a create. */
    createTimeoutMs?: NonNullable<Whole['consumer']>['createTimeoutMs'] | undefined
    /** The least time after which a create that does not end is given up for another provider that has room. */
    createPatienceMs?: NonNullable<Whole['consumer']>['createPatienceMs'] | undefined
    /** The deadline of a single call to a provider or git host that has no other. */
    callTimeoutMs?: NonNullable<Whole['consumer']>['callTimeoutMs'] | undefined
    /** The deadline of a fetch, a checkpoint or a push. */
    gitTimeoutMs?: NonNullable<Whole['consumer']>['gitTimeoutMs'] | undefined
    /** How long a sandbox that lives, by its provider’s word, is waited for when it can’t be reached. */
    patienceMs?: NonNullable<Whole['consumer']>['patienceMs'] | undefined
    /** The most that one fetch, checkpoint or push carries, as a pack, at a provider whose credentials are brokered. */
    maxPackBytes?: NonNullable<Whole['consumer']>['maxPackBytes'] | undefined
    /** A sandbox’s lifetime, renewed while its job runs. */
    sandboxLifetimeMs?: NonNullable<Whole['consumer']>['sandboxLifetimeMs'] | undefined
    /** How long before the end of a lifetime that can’t be extended a step with resume begins to move; a third of a shorter lifetime. */
    plannedMoveMs?: NonNullable<Whole['consumer']>['plannedMoveMs'] | undefined
    /** How many sandboxes one job may use up before it fails: a job that kills every sandbox must end. */
    maxAttempts?: NonNullable<Whole['consumer']>['maxAttempts'] | undefined
    /** How long a finished step’s work may take to be saved once the job’s own time is up. */
    saveGraceMs?: NonNullable<Whole['consumer']>['saveGraceMs'] | undefined
    /** How long storing a job’s artifacts may take once it is certain how the job ends. */
    artifactsTimeoutMs?: NonNullable<Whole['consumer']>['artifactsTimeoutMs'] | undefined
    /** About how often each provider’s sandboxes are held against the run records, by one of all consumers. */
    reapIntervalMs?: NonNullable<Whole['consumer']>['reapIntervalMs'] | undefined
    /** How old a sandbox that no run owns must be before it is killed. */
    reapGraceMs?: NonNullable<Whole['consumer']>['reapGraceMs'] | undefined
    /** How long the branches of ended jobs are kept; push.keep in a job keeps its own for ever. */
    branchRetentionMs?: NonNullable<Whole['consumer']>['branchRetentionMs'] | undefined
    /** Tail of each stream that results hold, in bytes. */
    outputTailBytes?: NonNullable<Whole['consumer']>['outputTailBytes'] | undefined
    /** How much of the lines that a job has changed stands on its page, in bytes. It is kept in Redis as long as its result, with secrets masked; 0 for none of it: the paths and counts are there all the same. */
    patchBytes?: NonNullable<Whole['consumer']>['patchBytes'] | undefined
    /** Output of one stream of one step that is kept; past it the middle is left out. */
    maxLogBytes?: NonNullable<Whole['consumer']>['maxLogBytes'] | undefined
    /** The environment variables that jobs may ask for by name. Every other name is refused. */
    secrets?: NonNullable<Whole['consumer']>['secrets'] | undefined
    /** How long results, output and records of ended jobs are kept. */
    retentionMs?: NonNullable<Whole['consumer']>['retentionMs'] | undefined
    /** How many completion events are kept for subscribers, how many bytes of them, and for how long; what goes before a group has handled it is told to that group. */
    events?: {
      /** How many events are kept. */
      maxCount?: NonNullable<NonNullable<Whole['consumer']>['events']>['maxCount'] | undefined
      /** How many bytes of them. */
      maxBytes?: NonNullable<NonNullable<Whole['consumer']>['events']>['maxBytes'] | undefined
      /** For how long. */
      maxAgeMs?: NonNullable<NonNullable<Whole['consumer']>['events']>['maxAgeMs'] | undefined
    } | undefined
  } | undefined
  events?: {
    /** Which events are written of every job besides its end: "enqueued", "started", "step.finished", "checkpointed", "moved", "parked", "promoted". Producers and consumers are to say the same. */
    types?: NonNullable<Whole['events']>['types'] | undefined
  } | undefined
  /** Where events are posted to, and what may be called; see docs/webhooks.md. */
  webhooks?: {
    /** Receivers that are told of all jobs. */
    endpoints?: NonNullable<Whole['webhooks']>['endpoints'] | undefined
    /** Variables with signing secrets that jobs may name in their own webhooks. */
    secrets?: NonNullable<Whole['webhooks']>['secrets'] | undefined
    /** Networks that are not public and may be called all the same; every other private address is refused. */
    allowNetworks?: NonNullable<Whole['webhooks']>['allowNetworks'] | undefined
    /** How many events one process delivers to each receiver at once. */
    concurrency?: NonNullable<Whole['webhooks']>['concurrency'] | undefined
    /** Whether consumers deliver; false where another process does (startWebhooks). */
    deliver?: NonNullable<Whole['webhooks']>['deliver'] | undefined
  } | undefined
  logs?: {
    /** Of the process’ own log: JSON lines on stderr. */
    level?: NonNullable<Whole['logs']>['level'] | undefined
  } | undefined
  limits?: {
    /** The size that a job spec may have as JSON. */
    specBytes?: NonNullable<Whole['limits']>['specBytes'] | undefined
  } | undefined
  /** Where "switchyard serve" listens. It speaks plain HTTP: put TLS before it. */
  http?: {
    /** The address that is listened on. */
    host?: NonNullable<Whole['http']>['host'] | undefined
    /** The port; 0 for any free one. */
    port?: NonNullable<Whole['http']>['port'] | undefined
    /** The size that a request may have. Default 4 MiB, at least twice limits.specBytes. */
    maxBodyBytes?: NonNullable<Whole['http']>['maxBodyBytes'] | undefined
    /** How many requests a key may make, counted for all servers of the deployment. */
    rateLimit?: {
      /** How many in that time. */
      requests: NonNullable<NonNullable<Whole['http']>['rateLimit']>['requests']
      /** The time. */
      perSeconds: NonNullable<NonNullable<Whole['http']>['rateLimit']>['perSeconds']
    } | undefined
    /** How many keys that open nothing an address may send before it is told to wait, counted by each server. */
    keyTries?: {
      /** How many in that time. */
      requests: NonNullable<NonNullable<Whole['http']>['keyTries']>['requests']
      /** The time. */
      perSeconds: NonNullable<NonNullable<Whole['http']>['keyTries']>['perSeconds']
    } | undefined
    /** Networks of proxies whose X-Forwarded-For says where requests come from. */
    trustedProxies?: NonNullable<Whole['http']>['trustedProxies'] | undefined
    /** Whether there is /mcp, the Model Context Protocol over HTTP; needs the package @modelcontextprotocol/sdk. */
    mcp?: NonNullable<Whole['http']>['mcp'] | undefined
  } | undefined
  /** Where "consume", "serve" and "board" listen for probes: /healthz and /readyz. Without a port they do not. It asks nobody for a password. */
  monitor?: {
    /** The address that is listened on. */
    host?: NonNullable<Whole['monitor']>['host'] | undefined
    /** The port; 0 for any free one, without it there are no probes. */
    port?: NonNullable<Whole['monitor']>['port'] | undefined
  } | undefined
  telemetry?: {
    /** Where traces and metrics go by OTLP over HTTP. The OTEL_* variables of OpenTelemetry win, and work without it. */
    otlp?: {
      /** The collector’s address. */
      endpoint: NonNullable<NonNullable<Whole['telemetry']>['otlp']>['endpoint']
      /** Whether traces are sent. */
      traces?: NonNullable<NonNullable<Whole['telemetry']>['otlp']>['traces'] | undefined
      /** Whether metrics are sent. */
      metrics?: NonNullable<NonNullable<Whole['telemetry']>['otlp']>['metrics'] | undefined
      /** How often metrics are sent. */
      everyMs?: NonNullable<NonNullable<Whole['telemetry']>['otlp']>['everyMs'] | undefined
    } | undefined
  } | undefined
  board?: {
    /** The address that is listened on. */
    host?: NonNullable<Whole['board']>['host'] | undefined
    /** The port; 0 for any free one. */
    port?: NonNullable<Whole['board']>['port'] | undefined
    /** The user name that goes with the password. */
    username?: NonNullable<Whole['board']>['username'] | undefined
    /** The environment variable that holds the password. Needed when host is not a loopback address. */
    passwordEnv?: NonNullable<Whole['board']>['passwordEnv'] | undefined
    /** Whether jobs can be cancelled, retried, promoted and removed from the board. */
    writable?: NonNullable<Whole['board']>['writable'] | undefined
    /** A commit’s page at the git host, such as "https://git.example/{repository}/commit/{sha}". */
    commitUrl?: NonNullable<Whole['board']>['commitUrl'] | undefined
    /** A branch’s page, such as "https://git.example/{repository}/tree/{branch}". */
    branchUrl?: NonNullable<Whole['board']>['branchUrl'] | undefined
    /** The page of what a job has changed, such as "https://git.example/{repository}/compare/{base}...{sha}". */
    compareUrl?: NonNullable<Whole['board']>['compareUrl'] | undefined
  } | undefined
}
