import type { Sandbox } from '@daytona/sdk'
import { z } from 'zod'
import { InfrastructureError } from '../../job/errors.js'
import { unsettled } from '../refused-create.js'
import { isNotFound } from './classify.js'

/**
 * Whether the organisation's tier takes the network of its sandboxes out of their own hands. On tiers 1 and 2 Daytona's own policy holds,
 * whatever a create asks for, and the create says nothing of it. A change of the policy is refused with a sentence there, and before
 * anything else is looked at: asking for no change at all tells, and changes nothing.
 */
export class NetworkTier {
  private restricts: boolean | undefined

  constructor(
    private readonly source: string,
    private readonly api: () => { readonly url: string; readonly key: string },
  ) {}

  /** By Daytona's word; undefined until it gave one. */
  get isRestricted(): boolean | undefined {
    return this.restricts
  }

  get problem(): string {
    return `${this.source}: the tier of this Daytona organisation sets the network of all its sandboxes, and none can have one of its own: "open" reaches what the tier lets through, and other policies are not enforced; use tier 3 or above, or another provider`
  }

  /**
   * @param sandboxId any sandbox of the organisation.
   * @returns what Daytona said this time; undefined when it gave no answer that tells.
   */
  async ask(sandboxId: string, signal: AbortSignal): Promise<boolean | undefined> {
    const { url, key } = this.api()
    const said = await fetch(`${url}/sandbox/${encodeURIComponent(sandboxId)}/network-settings`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: '{}',
      signal,
    }).then(read, () => undefined)
    signal.throwIfAborted()
    this.restricts = said ?? this.restricts
    return said
  }

  /** The first sandbox with a network policy is given to nobody before Daytona has said that it keeps to it. @throws InfrastructureError */
  async confirm(sandbox: Sandbox, signal: AbortSignal): Promise<void> {
    const said = this.restricts ?? (await this.ask(sandbox.id, signal))
    if (said === false) return
    const error =
      said === true
        ? this.refusal()
        : new InfrastructureError({ kind: 'transient', source: this.source, message: `${this.source}: Daytona did not say whether the organisation's tier lets a sandbox have a network policy of its own` })
    try {
      await sandbox.delete()
    } catch (problem) {
      throw isNotFound(problem) ? error : unsettled(error)
    }
    throw error
  }

  refusal(): InfrastructureError {
    return new InfrastructureError({ kind: 'invalid', owner: 'consumer-configuration', source: this.source, message: this.problem })
  }
}

const answer = z.object({ message: z.string() })

async function read(response: Response): Promise<boolean | undefined> {
  const said = answer.safeParse(await response.json().catch(() => undefined))
  if (response.ok) return false
  if (response.status !== 400 || !said.success) return undefined
  return /cannot be overridden at the sandbox level|network access is restricted/i.test(said.data.message)
}
