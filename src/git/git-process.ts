import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { Duplex } from 'node:stream'
import { started } from '../job/started.js'
import { struckOut } from '../job/struck-out.js'

/** What a git command needs to speak to a host. The token goes to that one command only. */
export interface GitCredentials {
  readonly username: string
  readonly token: string
}

export interface GitCommand {
  readonly args: readonly string[]
  readonly cwd?: string | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  readonly credentials?: GitCredentials | undefined
  /**
   * How the token comes to git: in the `environment` of git and all that it starts (the default), or by a `pipe` that hands it to
   * the first two who ask, git's HTTP helpers: for a command that goes on to read objects of unknown origin.
   */
  readonly credentialsBy?: 'environment' | 'pipe' | undefined
  /** Configuration for this command, over the safe defaults. */
  readonly config?: Readonly<Record<string, string>> | undefined
  readonly input?: string | Uint8Array | undefined
  readonly timeoutMs: number
  /** How much processor time each of its processes may take, in whole seconds. The kernel ends one that takes more. */
  readonly cpuSeconds?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Output past this is not kept, and `truncated` says so. Default 16 MiB. */
  readonly maxOutputBytes?: number | undefined
}

export interface GitOutcome {
  /** Null when a signal ended it. */
  readonly exitCode: number | null
  readonly stdout: Buffer
  /** At most the first 64 KiB, with the token masked. */
  readonly stderr: string
  /** The output went over `maxOutputBytes`; git was stopped there. */
  readonly truncated: boolean
  /** It did not end within `timeoutMs` and was stopped. */
  readonly timedOut: boolean
  /** It, or a process that it started, took more than `cpuSeconds`. */
  readonly outOfCpu: boolean
}

// Everything that could make git run a command of somebody else's, ask a question or read a file that is not its own.
const safeConfig = {
  'core.hooksPath': '/dev/null',
  'core.fsmonitor': 'false',
  'protocol.allow': 'never',
  'protocol.http.allow': 'always',
  'protocol.https.allow': 'always',
  'protocol.file.allow': 'never',
  'protocol.ext.allow': 'never',
  'http.followRedirects': 'false',
  // A peer that stops sending is given up, also when nobody is left to hold git to a deadline.
  'http.lowSpeedLimit': '1',
  'http.lowSpeedTime': '120',
  'credential.helper': '',
  'credential.interactive': 'false',
  'submodule.recurse': 'false',
  'fetch.recurseSubmodules': 'false',
  'gc.auto': '0',
  'maintenance.auto': 'false',
  'advice.detachedHead': 'false',
}

const credentialHelper =
  '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$SWITCHYARD_GIT_USERNAME" "$SWITCHYARD_GIT_TOKEN"; }; f'

const pipeHelper = '!f() { test "$1" = get && read -r name <&3 && read -r token <&3 && printf "username=%s\\npassword=%s\\n" "$name" "$token"; }; f'

// How the consumer reaches the network is its operator's affair: proxies and certificate stores are kept.
const keptVariables = [
  'http_proxy',
  'https_proxy',
  'all_proxy',
  'no_proxy',
  'HTTPS_PROXY',
  'ALL_PROXY',
  'NO_PROXY',
  'GIT_SSL_CAINFO',
  'GIT_SSL_CAPATH',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
]

/** The environment for git: nothing of the user's or the system's configuration, nothing that asks or pages. */
export function gitEnvironment(credentials?: GitCredentials, extraConfig: Readonly<Record<string, string>> = {}, by: GitCommand['credentialsBy'] = 'environment'): Record<string, string> {
  const config = [...Object.entries<string>(safeConfig), ...Object.entries(extraConfig)]
  if (credentials !== undefined) config.push(['credential.helper', by === 'pipe' ? pipeHelper : credentialHelper])
  return {
    ...Object.fromEntries(keptVariables.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]))),
    PATH: process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin',
    HOME: '/nonexistent',
    XDG_CONFIG_HOME: '/nonexistent',
    LC_ALL: 'C',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    GIT_ASKPASS: '',
    SSH_ASKPASS: '',
    GIT_OPTIONAL_LOCKS: '0',
    GIT_CONFIG_COUNT: String(config.length),
    ...Object.fromEntries(
      config.flatMap(([key, value], index) => [
        [`GIT_CONFIG_KEY_${index}`, key],
        [`GIT_CONFIG_VALUE_${index}`, value],
      ]),
    ),
    ...(credentials === undefined || by === 'pipe' ? {} : { SWITCHYARD_GIT_USERNAME: credentials.username, SWITCHYARD_GIT_TOKEN: credentials.token }),
  }
}

/**
 * Runs git in a process group of its own, and ends the whole group at the deadline or when the signal aborts.
 * @throws the signal's reason when it aborted, and the system's error when git can't be started.
 */
export async function runGit(command: GitCommand): Promise<GitOutcome> {
  command.signal?.throwIfAborted()
  const maxBytes = command.maxOutputBytes ?? 16 * 1024 * 1024
  const [file, args] = command.cpuSeconds === undefined ? ['git', command.args] : ['/bin/sh', ['-c', 'ulimit -St "$0" && exec git "$@"', String(command.cpuSeconds), ...command.args]]
  const byPipe = command.credentialsBy === 'pipe' ? command.credentials : undefined
  const child = await started(
    spawn(file, args, {
      cwd: command.cwd,
      env: { ...gitEnvironment(command.credentials, command.config, command.credentialsBy), ...command.env },
      stdio: ['pipe', 'pipe', 'pipe', ...(byPipe === undefined ? [] : ['pipe' as const])],
      detached: true,
    }),
  )
  const handOver = child.stdio[3]
  if (byPipe !== undefined && handOver instanceof Duplex) {
    handOver.on('error', () => undefined).resume()
    // Git's own request and that of its negotiation.
    handOver.end(`${byPipe.username}\n${byPipe.token}\n`.repeat(2))
  }
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  let stdoutBytes = 0
  let stderrBytes = 0
  let truncated = false
  let timedOut = false
  let killTimer: NodeJS.Timeout | undefined
  // TERM first: git then removes its lock files.
  const stop = () => {
    killGroup(child.pid, 'SIGTERM')
    killTimer ??= setTimeout(() => killGroup(child.pid, 'SIGKILL'), 2000)
  }
  child.stdout.on('data', (chunk: Buffer) => {
    if (stdoutBytes + chunk.length > maxBytes) {
      stdout.push(chunk.subarray(0, maxBytes - stdoutBytes))
      stdoutBytes = maxBytes
      if (!truncated) stop()
      truncated = true
      return
    }
    stdout.push(chunk)
    stdoutBytes += chunk.length
  })
  child.stderr.on('data', (chunk: Buffer) => {
    if (stderrBytes < 64 * 1024) stderr.push(chunk)
    stderrBytes += chunk.length
  })
  // git may end before it has read all its input; its exit code tells why.
  child.stdin.on('error', () => undefined)
  child.stdin.end(command.input ?? '')
  const timer = setTimeout(() => {
    timedOut = true
    stop()
  }, command.timeoutMs)
  command.signal?.addEventListener('abort', stop, { once: true })
  if (command.signal?.aborted === true) stop()
  try {
    const { exitCode, signal } = await new Promise<{ exitCode: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code, by) => resolve({ exitCode: code, signal: by }))
    })
    command.signal?.throwIfAborted()
    const text = Buffer.concat(stderr).toString('utf8')
    const outOfCpu = command.cpuSeconds !== undefined && (signal === 'SIGXCPU' || text.includes(`died of signal ${constants.signals.SIGXCPU}`))
    return { exitCode, stdout: Buffer.concat(stdout), stderr: struckOut(text, [command.credentials?.token ?? '']), truncated, timedOut, outOfCpu }
  } finally {
    clearTimeout(timer)
    clearTimeout(killTimer)
    command.signal?.removeEventListener('abort', stop)
  }
}

/** Ends a process group that git was started in; a group that is gone already is fine. */
export function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
