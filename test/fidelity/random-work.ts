import { setTimeout as delay } from 'node:timers/promises'
import type { CheckpointResult } from '../../src/runner/runner.js'
import { differences } from './journey.js'
import { identity, plainOrigin } from './kinds/kind.js'
import type { Event } from './operations.js'
import type { View } from './view.js'
import type { Job, Mode, Site, World } from './world.js'

/** A job whose agent does one thing after the other while its sandboxes come and go. */
class RandomWork {
  readonly problems: string[] = []
  #site: Site | undefined
  #saved: { readonly checkpoint: CheckpointResult; readonly view: View } | null = null

  constructor(
    readonly world: World,
    readonly job: Job,
  ) {}

  get site(): Site {
    if (this.#site === undefined) throw new Error('there is no sandbox yet')
    return this.#site
  }

  /** A sandbox, from the last checkpoint on where there is one, holds what that saw. */
  async begin(): Promise<void> {
    this.#site = await this.world.sandbox(this.job)
    if (this.#saved === null) {
      await this.site.begin()
      await this.site.run(identity)
      return
    }
    const notes = await this.site.restore(this.#saved.checkpoint, identity)
    this.problems.push(...differences('after a move', this.#saved.view, await this.site.look(), undefined))
    if (notes.length > 0) this.problems.push(`a move has to say: ${notes.join('; ')}`)
  }

  async run(line: string): Promise<void> {
    await this.site.run(`( ${line} ) >/dev/null 2>&1 || :`)
  }

  async save(): Promise<void> {
    const view = await this.site.look()
    const checkpoint = await this.site.save(this.#saved?.checkpoint ?? null)
    this.problems.push(...differences('a save changed', view, await this.site.look(), undefined))
    if (checkpoint !== null) this.#saved = { checkpoint, view }
    else if (this.#saved !== null) this.problems.push(...differences('nothing was saved, though changed is', this.#saved.view, view, undefined))
  }

  /** The sandbox is gone while this line runs. */
  async lose(line: string, afterMs: number): Promise<void> {
    const running = this.run(line).catch(() => undefined)
    await Promise.race([running, delay(afterMs)])
    await this.site.close()
    await running
    await this.begin()
  }

  /** What would be promoted is what the agent's own git would commit, where that makes no pointer to a repository that nobody can fetch. */
  async finish(): Promise<void> {
    const { sha, unsaved } = await this.site.commit()
    await this.site.push(sha, this.#saved?.checkpoint ?? null)
    const own = (await this.site.run("if git add -A --sparse >&2 || git add -A >&2; then git write-tree; fi; git ls-files --stage | grep -c '^160000' || :")).trim().split('\n')
    if (own.length < 2 || own[1] !== '0' || unsaved.length > 0) return
    const { tree } = await this.world.compare(await this.world.fetched(this.job, this.job.workBranch), this.job, sha)
    if (tree !== own[0]) this.problems.push(`promoted is ${tree} in place of the agent's own ${own[0] ?? ''}`)
  }
}

/** @returns all that was not as it had been saved, and nothing when all was. */
export async function doRandomWork(world: World, mode: Mode, events: readonly Event[]): Promise<string[]> {
  const work = new RandomWork(world, await world.job(plainOrigin, mode))
  try {
    await work.begin()
    let loseAfterMs: number | undefined
    for (const event of events) {
      if ('save' in event) await work.save()
      else if ('loseAfterMs' in event) loseAfterMs = event.loseAfterMs
      else if (loseAfterMs === undefined) await work.run(event.run)
      else {
        await work.lose(event.run, loseAfterMs)
        loseAfterMs = undefined
      }
      if (work.problems.length > 0) return work.problems
    }
    await work.save()
    await work.lose(':', 0)
    await work.finish()
    return work.problems
  } catch (error) {
    return [...work.problems, `broke off: ${String(error)}`]
  } finally {
    await work.site.close()
  }
}
