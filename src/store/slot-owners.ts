import type { Redis } from 'ioredis'
import { z } from 'zod'
import { FenceLostError } from '../job/errors.js'
import type { Keys } from './keys.js'
import { runLedgerScript } from './ledger-call.js'
import type { ScriptName } from './scripts.js'
import { SlotLedger } from './slot-ledger.js'

/**
 * Whose a bound place is: a job's, or, when the job went on elsewhere, of what it left behind there and may still live:
 * a sandbox that was given up, or one whose create was never answered. Jobs go by their ids among all queues.
 */
export type SlotOwner =
  | { readonly kind: 'job'; readonly runId: string }
  | { readonly kind: 'sandbox'; readonly sandboxId: string }
  | { readonly kind: 'create'; readonly runId: string; readonly attempt: number; readonly atMs: number }

/** After a create that nobody answered: a sandbox that is not listed by then did not come to be. */
export const unansweredCreateMs = 15_000

/** An owner as the ledger holds it. No job's id begins with ":", so the other kinds can't be taken for one. */
export function ownerName(owner: SlotOwner): string {
  switch (owner.kind) {
    case 'job':
      return owner.runId
    case 'sandbox':
      return `:sandbox:${owner.sandboxId}`
    case 'create':
      return `:create:${owner.attempt}:${owner.atMs}:${owner.runId}`
  }
}

function parseOwner(name: string): SlotOwner {
  const create = /^:create:(\d+):(\d+):(.*)$/s.exec(name)
  if (create !== null) return { kind: 'create', attempt: Number(create[1]), atMs: Number(create[2]), runId: create[3] ?? '' }
  if (name.startsWith(':sandbox:')) return { kind: 'sandbox', sandboxId: name.slice(':sandbox:'.length) }
  return { kind: 'job', runId: name }
}

/** A place that does not expire by itself. */
export interface BoundSlot {
  readonly leaseId: string
  readonly owner: SlotOwner
  /** It is a job's that was removed from the queue around Switchyard: nobody can take it any more. */
  readonly removed: boolean
  /** For how long what a job left behind has it, in milliseconds by the ledger's clock; 0 for a job's own. */
  readonly heldMs: number
}

/** The places of a provider, and when they were read. */
export interface BoundSlots {
  /** Milliseconds of the ledger's own clock, which never goes back and is the same for all consumers. */
  readonly atMs: number
  readonly slots: readonly BoundSlot[]
}

/** Who owns the places that do not expire, and what becomes of them when their owner is gone. All of it by Lua. */
export class SlotOwners {
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
    private readonly ledger: SlotLedger = new SlotLedger(redis, keys),
  ) {}

  /** The places of a provider that jobs, or what jobs left behind, hold. */
  async bound(provider: string): Promise<BoundSlots> {
    const [atMs, ...flat] = z.array(z.string()).parse(await this.run('ledger-bound', [provider]))
    const slots = flat.flatMap((leaseId, index) => {
      if (index % 4 !== 0) return []
      const owner = parseOwner(flat[index + 1] ?? '')
      return [{ leaseId, owner, removed: owner.kind === 'job' && flat[index + 2] === '1', heldMs: Number(flat[index + 3]) }]
    })
    return { atMs: Number(atMs), slots }
  }

  /**
   * Leaves a job's place, if it holds one, to what may still live in it: the provider counts that until it is known to be dead.
   * @param where.forMs then it is free by itself; left out, it is until it is freed. `provider`: one that it has elsewhere is left to it.
   * @throws FenceLostError when the fence is not the run's any more.
   */
  async entrust(job: { readonly runId: string; readonly fence: number }, owner: SlotOwner, where: { readonly forMs?: number; readonly provider?: string } = {}): Promise<void> {
    const answer = await this.run('ledger-entrust', [job.runId, job.fence, ownerName(owner), where.forMs ?? '', where.provider ?? ''], [this.keys.ofRuns().run(job.runId)])
    if (answer === 'lost') throw new FenceLostError(job.runId)
  }

  /**
   * Frees a place whose owner is gone. A job's is left alone when its run has not ended.
   * @returns whether it was freed.
   */
  async free({ leaseId, owner }: Pick<BoundSlot, 'leaseId' | 'owner'>): Promise<boolean> {
    const run = owner.kind === 'job' ? [this.keys.ofRuns().run(owner.runId)] : []
    if ((await this.run('ledger-unbind', [leaseId, ownerName(owner)], run)) !== 1) return false
    await this.ledger.release(leaseId)
    return true
  }

  /** Frees the place that was left to something which is known to be dead now; none is fine. */
  async freeOf(owner: SlotOwner): Promise<void> {
    const lease = await this.ledger.leaseOfOwner(ownerName(owner))
    if (lease !== null) await this.free({ leaseId: lease.leaseId, owner })
  }

  private async run(name: ScriptName, args: readonly (string | number)[], moreKeys: readonly string[] = []): Promise<unknown> {
    return await runLedgerScript(this.redis, this.keys, name, args, moreKeys)
  }
}
