import { join } from 'node:path'
import { storedRepositories } from '../../embedded/index.js'
import { harmlessLine } from '../../job/harmless-text.js'
import { checkpointBranch } from '../../job/names.js'
import type { JobResult } from '../../job/result.js'
import { bringHome, checkoutOf, keepRepository, storedBranches, type StoredBranch } from './bring-home.js'
import type { Origin } from './dev-folder.js'

export interface ReturnedWorkOptions {
  /** The folder of the local Code Storage. */
  readonly dataDir: string
  readonly origins: readonly Origin[]
  /** Where to what can't be brought home. */
  readonly kept: string
  readonly say: (line: string) => void
  readonly nowMs: () => number
}

/**
 * What jobs made, on its way from a local Code Storage to the folders that its repositories were filled from: what a job made when it
 * ends (`ended`), and in the end whatever is left (`rest`). What has no checkout to go to, or does not get there, is kept.
 */
export class ReturnedWork {
  /** The names of checkpoints that nobody needs, since their jobs have ended and what they made was brought. */
  readonly #spent: RegExp[] = []

  constructor(private readonly options: ReturnedWorkOptions) {}

  /** @throws SwitchyardError when git does not take it; again is fine. */
  async ended(result: JobResult): Promise<void> {
    const { say } = this.options
    const lines = [`job ${harmlessLine(result.jobId)} ${result.status}`]
    const names = [result.branch, ...result.kept.map(({ branch }) => branch), result.promoted?.to ?? null].filter((name) => name !== null)
    const found = await this.#find(result.repository)
    if (found !== undefined && names.length > 0) {
      const branches = (await storedBranches(found.path, found.origin?.head)).filter(({ name }) => names.includes(name)).sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name))
      const checkout = await checkoutFor(found.origin)
      if (checkout !== undefined) for (const { name } of await bringHome(found.path, checkout, branches)) lines.push(`  ${lookAt(checkout, name)}`)
      else if (branches.length > 0) lines.push(`  ${branches.map(({ name }) => harmlessLine(name)).join(', ')}: kept when this ends, since ${found.origin?.source ?? harmlessLine(result.repository)} is no git checkout`)
    }
    this.#spent.push(checkpointsOf(result.jobId))
    for (const line of lines) say(line)
  }

  /**
   * Brings or keeps everything that was not brought.
   * @returns where each commit is, as a name or a path.
   */
  async rest(): Promise<ReadonlyMap<string, string>> {
    const { say, kept, nowMs } = this.options
    const places = new Map<string, string>()
    for (const { id, path } of await storedRepositories(this.options.dataDir)) {
      const origin = this.options.origins.find(({ repository }) => repository === id)
      const branches = (await storedBranches(path, origin?.head)).filter(({ name }) => !this.#spent.some((pattern) => pattern.test(name)))
      const checkout = await checkoutFor(origin)
      if (branches.length === 0) continue
      try {
        if (checkout === undefined) throw new Error(`${origin?.source ?? 'where it came from'} is no git checkout`)
        for (const home of await bringHome(path, checkout, branches)) places.set(home.commit, home.name)
      } catch (error) {
        const now = await keepRepository(path, kept, nowMs())
        for (const { commit } of branches) places.set(commit, now)
        say(`kept: ${now} has ${named(branches)} of ${harmlessLine(id)} (${harmlessLine(error instanceof Error ? error.message : String(error))}); look with: git clone ${quoted(now)}`)
      }
    }
    return places
  }

  async #find(repository: string): Promise<{ path: string; origin: Origin | undefined } | undefined> {
    const found = (await storedRepositories(this.options.dataDir)).find(({ id }) => id === repository)
    return found === undefined ? undefined : { path: found.path, origin: this.options.origins.find((origin) => origin.repository === repository) }
  }
}

/** The repositories of a `dev` that died. */
export function leftDataDir(folder: string): string {
  return join(folder, 'repositories')
}

async function checkoutFor(origin: Origin | undefined): Promise<string | undefined> {
  return origin === undefined ? undefined : await checkoutOf(origin.source)
}

/** The command that shows what a branch has and the checked-out one has not. */
function lookAt(checkout: string, name: string): string {
  return `git -C ${quoted(checkout)} log -p HEAD..${quoted(name)}`
}

function checkpointsOf(jobId: string): RegExp {
  const name = checkpointBranch(jobId, 1, 1).replace(/1\.1$/, '')
  return new RegExp(`^${name.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')}\\d+\\.\\d+(\\.\\d+)?$`)
}

function named(branches: readonly StoredBranch[]): string {
  const few = branches.slice(0, 5).map(({ name }) => harmlessLine(name)).join(', ')
  return branches.length > 5 ? `${few} and ${branches.length - 5} more` : few
}

/** For a shell; most need nothing. */
function quoted(text: string): string {
  const line = harmlessLine(text)
  return /^[\w./@:%+=,-]+$/.test(line) ? line : `'${line.replaceAll("'", "'\\''")}'`
}
