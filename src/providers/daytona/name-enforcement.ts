import type { Sandbox } from '@daytona/sdk'
import { InfrastructureError } from '../../job/errors.js'
import { unsettled } from '../refused-create.js'
import type { ExecResult } from '../provider.js'
import { isNotFound } from './classify.js'

/** How long a sandbox may try to reach what it must not reach, in milliseconds. */
const tryMs = 12_000

/** git, since every sandbox needs it, and with nobody's configuration. What it says of a host that it reached differs from what it says of a wall. */
const script = `command -v git >/dev/null 2>&1 || { echo no-git; exit 0; }
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 LC_ALL=C timeout 8 git ls-remote "$OUTSIDE" </dev/null 2>&1
echo "code $?"`

/**
 * Whether Daytona's runners enforce lists of host names. Some take such a list and leave the network open, and say nothing of it. So,
 * unless the operator has said, the first sandbox with names in its list is given to nobody before it has failed to reach Daytona's
 * own API, which is not on the list.
 */
export class NameEnforcement {
  private enforced: boolean | undefined

  constructor(
    private readonly source: string,
    /** What the operator says; undefined when nothing. */
    told: boolean | undefined,
    private readonly outsideUrl: string,
  ) {
    this.enforced = told
  }

  /** Whether that was found out, or told. */
  get isKnown(): boolean {
    return this.enforced !== undefined
  }

  /** Why no list with names may be used; undefined while that is not known. */
  get problem(): string | undefined {
    return this.enforced === false ? this.openSentence : undefined
  }

  /**
   * @param run runs a command in the sandbox.
   * @throws InfrastructureError, once the sandbox is gone, when the list is not enforced or nothing tells whether it is.
   */
  async confirm(sandbox: Sandbox, run: (script: string, env: Readonly<Record<string, string>>, timeoutMs: number) => Promise<ExecResult>): Promise<void> {
    if (this.enforced === true) return
    const said = await run(script, { OUTSIDE: `${this.outsideUrl}/switchyard-probe.git` }, tryMs).then(({ stdout }) => verdictOf(stdout), failure)
    // No answer within the time is that of a wall which lets packets vanish.
    const verdict = said instanceof InfrastructureError ? (said.kind === 'timeout' ? true : undefined) : said
    this.enforced = verdict ?? this.enforced
    if (verdict === true) return
    const message = verdict === false ? this.openSentence : this.unknownSentence
    const error = said instanceof InfrastructureError ? said : new InfrastructureError({ kind: 'invalid', owner: 'consumer-configuration', source: this.source, message })
    try {
      await sandbox.delete()
    } catch (problem) {
      throw isNotFound(problem) ? error : unsettled(error)
    }
    throw error
  }

  private get openSentence(): string {
    return `${this.source}: Daytona's runners leave the network open for lists of host names (a sandbox reached what is not on its list); name addresses or ranges, use another provider, or renew the runners`
  }

  private get unknownSentence(): string {
    return `${this.source}: nothing tells whether Daytona's runners enforce lists of host names; set enforcesNames to true if you know that they do, or use another provider`
  }
}

/** @returns whether the outside was out of reach; undefined when what git said tells nothing. */
export function verdictOf(stdout: string): boolean | undefined {
  if (/could not resolve|failed to connect|couldn't connect|connection (timed out|refused|reset)|no route to host|network is unreachable|ssl_connect|ssl_error_syscall|gnutls|^code 124$/im.test(stdout)) return true
  if (/repository '[^']*' not found|returned error: \d{3}|authentication failed|could not read username|not valid: is this a git repository/i.test(stdout)) return false
  return undefined
}

function failure(error: unknown): InfrastructureError {
  if (error instanceof InfrastructureError) return error
  throw error
}
