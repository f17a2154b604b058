import type { Redis } from 'ioredis'
import { z } from 'zod'
import type { Keys } from './keys.js'

/** A branch at the git host that is to be deleted. */
export interface DoomedBranch {
  readonly repository: string
  readonly name: string
}

export interface ExpiringBranch extends DoomedBranch {
  /** Milliseconds since 1970. */
  readonly dueAtMs: number
}

/** A branch whose time is up. */
export interface DueBranch extends DoomedBranch {
  /** How often its deletion has failed. */
  readonly failures: number
}

const memberSchema = z.tuple([z.string(), z.string()])

/** A branch as the schedule holds it. */
export function branchMember({ repository, name }: DoomedBranch): string {
  return JSON.stringify([repository, name])
}

/**
 * Which branches of ended jobs are to be deleted, and when. A run's end enters its branches in the same step that ends it, so none
 * is forgotten; an entry leaves when its branch is deleted or given up.
 */
export class BranchSchedule {
  constructor(
    private readonly redis: Redis,
    private readonly keys: Keys,
  ) {}

  /** The branches whose time is up, the longest overdue first, at most `count`. */
  async due(nowMs: number, count: number): Promise<DueBranch[]> {
    const members = await this.redis.zrangebyscore(this.keys.branches(), '-inf', nowMs, 'LIMIT', 0, count)
    if (members.length === 0) return []
    const failures = await this.redis.hmget(this.failuresKey(), ...members)
    return members.map((member, index) => {
      const [repository, name] = memberSchema.parse(JSON.parse(member))
      return { repository, name, failures: Number(failures[index] ?? 0) }
    })
  }

  /** The branch is gone, or is given up. */
  async remove(branch: DoomedBranch): Promise<void> {
    await this.redis.multi().zrem(this.keys.branches(), branchMember(branch)).hdel(this.failuresKey(), branchMember(branch)).exec()
  }

  /** Its deletion failed and is to be tried again. */
  async postpone({ failures, ...branch }: DueBranch, dueAtMs: number): Promise<void> {
    const member = branchMember(branch)
    await this.redis.multi().zadd(this.keys.branches(), 'XX', dueAtMs, member).hset(this.failuresKey(), member, failures + 1).exec()
  }

  private failuresKey(): string {
    return `${this.keys.branches()}:failures`
  }
}
