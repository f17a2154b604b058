import type { NetworkPolicy, SecretInjection } from '../job/spec.js'

/**
 * What Switchyard asks of a sandbox provider. All of it is short, bounded calls: the runner (src/runner) makes long
 * work out of them, so no adapter streams, follows or buffers anything.
 *
 * Every call
 * - ends within `timeoutMs` and when `signal` aborts, whatever the SDK does (see `bounded` in ./deadline.ts);
 * - throws only `InfrastructureError` (src/job/errors.ts), sorted by the adapter's one `classify` function, with
 *   `source` = the provider's name. Its message holds no secret: no environment value and no command text.
 */
export interface Provider {
  /** The configured name, unique among a deployment's providers: two accounts of a kind are two providers. */
  readonly name: string
  /** The adapter: `local`, `e2b`, `modal`, `daytona`, `docker`, or a user's own. */
  readonly kind: string
  readonly capabilities: Capabilities
  /**
   * Why this provider could never create such a sandbox, as far as that is known without asking anybody: an image or resources
   * that it does not have, a host that it can't let through. The job then goes to another provider, or fails before a create.
   * @returns one sentence that names the provider, the field and the mend; undefined when it may be possible. Without this
   * method everything may be.
   */
  refusal?(wish: SandboxWish): string | undefined
  /**
   * Creates a sandbox. Deterministic in `request.name`: where the provider has unique names, a second create with the
   * same name finds the first one's sandbox; elsewhere the supervisor finds it by its tags.
   * When it throws anything else than `capacity`, `rate-limited`, `auth` or `invalid`, or one of these with `sandboxMayExist`, a
   * sandbox may exist all the same: its place is kept until it is known to be gone. An SDK that repeats a create by itself, or waits
   * for the sandbox within it, can end with a refusal after the sandbox was made; an adapter has to look before it says so.
   */
  create(request: SandboxRequest, options: CallOptions): Promise<SandboxInfo>
  /** What the provider says of a sandbox now; undefined once it says that there is none, or that it has ended. */
  get(sandboxId: string, options: CallOptions): Promise<SandboxInfo | undefined>
  /**
   * Runs a short command with `/bin/sh -c` and waits for it.
   * @throws InfrastructureError `sandbox-lost` only when `get` confirms it, `timeout` when `timeoutMs` passed (the
   * command may go on running), `transient` when the outcome is unknown. A non-zero exit is a result, never an error.
   */
  exec(sandboxId: string, command: ShellCommand, options: CallOptions): Promise<ExecResult>
  /** Kills a sandbox and everything in it. Returns when the provider has confirmed that it is gone; gone before is fine. */
  kill(sandboxId: string, options: CallOptions): Promise<void>
  /** Every live sandbox that bears all of `tags`, from all pages; without tags every one of the account. */
  list(tags: Readonly<Record<string, string>>, options: CallOptions): AsyncIterable<SandboxInfo>
  /**
   * Makes a sandbox live at least `lifetimeMs` from now, or as long as the account's limits let it. A provider that can't (see
   * capabilities) returns at once.
   * @returns how long it lives now, by the provider's own answer; undefined when it doesn't say.
   */
  extend(sandboxId: string, lifetimeMs: number, options: CallOptions): Promise<Lifetime | undefined>
  /**
   * Has the provider add headers to what the sandbox sends to these hosts, outside of the sandbox, so that nothing in it
   * ever holds them. Replaces all that was added before; no hosts take everything away. What the sandbox may reach stays as it is.
   * Only for providers that can; others don't have it.
   * @param headers by host name, without a port, then by header name.
   */
  injectHeaders?(sandboxId: string, headers: Readonly<Record<string, Readonly<Record<string, string>>>>, options: CallOptions): Promise<void>
  /**
   * The secrets, by the names that jobs have for them, which the provider's account keeps itself: in a sandbox whose request names one, a stand-in is
   * the value of that variable, and in what the sandbox sends to the secret's hosts the provider puts the value in its place. Only for providers that can; others don't have it.
   */
  readonly keptSecrets?: readonly string[]
  /**
   * Checks what can be checked without creating anything: credentials, configuration, what the host offers.
   * @returns warnings to show, such as "no bubblewrap: sandboxes share this machine's view".
   * @throws InfrastructureError `auth`, `invalid` or `provider-down`.
   */
  check(options: CallOptions): Promise<readonly string[]>
  /**
   * Finds out with a sandbox what `check` can't without one: what the account's plan takes away of `capabilities`, which are without it
   * from then on. Changes nothing about the sandbox. Only for providers where there is something to find out.
   * @returns warnings to show.
   */
  probe?(sandboxId: string, options: CallOptions): Promise<readonly string[]>
  /** Closes connections. Sandboxes go on. */
  close(): Promise<void>
}

/** What an adapter can do. The provider table in the docs is made from this. */
export interface Capabilities {
  /** Names are unique at the provider, so a create can be repeated without doubling. */
  readonly uniqueNames: boolean
  /** Lifetimes can be extended while the sandbox runs. */
  readonly extend: boolean
  /** The network policies it can enforce. */
  readonly network: { readonly gitOnly: boolean; readonly none: boolean; readonly allowList: boolean }
  /** What a network policy leaves open at this provider, in words for logs and documents. */
  readonly reach?: {
    /** Who reaches a port that a job opens. */
    readonly inbound: string
    /** What gets out beside a list of hosts, `git-only` included; nothing that is known when left out. */
    readonly besideLists?: string
  }
  /** The resources that a request may set. */
  readonly resources: { readonly cpu: boolean; readonly memory: boolean; readonly disk: boolean }
  /**
   * Sandboxes have the system of the machine that they run on, so that nothing is ever installed in them, nor made outside of their home.
   * Default false.
   */
  readonly sharedSystem?: boolean
  /**
   * Sandboxes also have their files in folders of that machine's, so that the repository is at another absolute path in each. Jobs with a
   * `resume` go there last. Default false; may turn out with `check` or the first create.
   */
  readonly sharedFileSystem?: boolean
  /** The longest lifetime in milliseconds, extensions included, when there is one. */
  readonly maxLifetimeMs: number | undefined
  /** The longest command text that `exec` takes, in bytes. */
  readonly maxCommandBytes: number
}

export interface SandboxRequest {
  /** Lower-case letters, digits and "-", at most 63: the deployment, the job and the attempt. */
  readonly name: string
  /** See `sandboxTags`. */
  readonly tags: Readonly<Record<string, string>>
  /** The image or template; the provider's configured default when undefined. */
  readonly image: string | undefined
  readonly resources: { readonly cpu?: number | undefined; readonly memoryMiB?: number | undefined; readonly diskMiB?: number | undefined }
  /** How long it may live unless extended. */
  readonly lifetimeMs: number
  readonly network: NetworkPolicy
  /** The git host's host names, which `git-only` lets through; with their port where it is not 443. */
  readonly gitHosts: readonly string[]
  /** Secrets of the job that are among the provider's `keptSecrets`, each with the host that it is for. */
  readonly keptSecrets?: readonly Pick<SecretInjection, 'name' | 'host'>[]
}

/** The part of a request that decides whether a provider can ever serve it. */
export type SandboxWish = Pick<SandboxRequest, 'resources' | 'network'> & {
  readonly image?: string | undefined
  /** As in a request. Left out: one host with a name. */
  readonly gitHosts?: readonly string[] | undefined
  /** Headers will be injected, for the git host or for a secret; see `Provider.injectHeaders`. */
  readonly injectsHeaders?: boolean | undefined
  /** The secrets of a job that are to be such headers, or that there are some which have to be. */
  readonly injects?: true | readonly Pick<SecretInjection, 'name' | 'fallback'>[] | undefined
}

/** How long a sandbox lives. Milliseconds since 1970, by the provider's own word where it gives one. */
export interface Lifetime {
  /** When it ends unless it is extended; undefined when the provider does not say. */
  readonly expiresAtMs: number | undefined
  /**
   * When it ends whatever is done: past this no call extends it, because the plan, the account or the provider ends it then. Undefined
   * when there is no such moment, or nobody says which.
   */
  readonly lifetimeEndsAtMs?: number | undefined
}

export interface SandboxInfo extends Lifetime {
  readonly id: string
  readonly name: string | undefined
  readonly tags: Readonly<Record<string, string>>
  /** Milliseconds since 1970; undefined when the provider does not say. */
  readonly createdAtMs: number | undefined
}

/** A command for `/bin/sh -c`. */
export interface ShellCommand {
  /** POSIX shell text. Never holds a secret: it may show in process lists. */
  readonly script: string
  /** Added to the command's environment. This is the way for secrets. */
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

export interface ExecResult {
  /** The exit code; 128 + n for a signal n. */
  readonly exitCode: number
  /**
   * The standard output, at least 4 MiB of it. Commands that Switchyard runs print ASCII only and nothing on the
   * standard error, because some providers decode and mix the two.
   */
  readonly stdout: string
}

export interface CallOptions {
  /** The deadline of this call. */
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/**
 * The tags that every sandbox of a deployment bears, so that none is ever forgotten.
 * @param tags.runId the job's id among all queues.
 */
export function sandboxTags(tags: { deployment: string; runId: string; attempt: number }): Record<string, string> {
  return {
    'switchyard-deployment': tags.deployment,
    'switchyard-job': tags.runId,
    'switchyard-attempt': String(tags.attempt),
  }
}
