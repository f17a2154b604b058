import { plainOrigin, type Kind } from './kinds/kind.js'
import type { View } from './view.js'
import type { Job, Mode, Site, World } from './world.js'

/**
 * Where a job loses its sandbox: nowhere; during `setup`, after its files were restored; within a step; between two steps; while
 * the final commit is pushed.
 */
export const phases = ['none', 'setup', 'step', 'between', 'push'] as const
export type Phase = (typeof phases)[number]

/**
 * Takes a kind of repository through a job that loses a sandbox in each of these phases, and says all that is then not as it was.
 * Every sandbox is a new one; the agent works in the first.
 */
export async function travel(world: World, kind: Kind, mode: Mode, lostIn: readonly Phase[]): Promise<string[]> {
  const problems: string[] = []
  const job = await world.job(kind.origin ?? plainOrigin, mode)
  const setup = kind.setup ?? ':'
  const first = await world.sandbox(job, kind.env)
  try {
    await first.begin()
    await first.run(setup)
    await first.run(kind.agent)
    const before = await first.look()

    const saved = await first.save(null)
    problems.push(...differences('a save changed', before, await first.look(), undefined))
    if ((await first.save(saved)) !== null) problems.push('a second save found something new')
    const own = await first.commit()
    const unsaved = own.unsaved.map(({ path }) => path).sort()
    if (unsaved.join('\n') !== [...(kind.unsaved ?? [])].sort().join('\n')) problems.push(`unsaved are ${JSON.stringify(own.unsaved)} in place of ${JSON.stringify(kind.unsaved ?? [])}`)
    problems.push(...differences('the final commit changed', before, await first.look(), undefined))
    if (lostIn.includes('push') || lostIn.includes('none')) await first.push(own.sha, saved)
    if (lostIn.includes('none')) problems.push(...(await promoted(world, job, first, kind, own.sha)))
    await first.close()
    if (saved === null) {
      if (!['nothing at all'].includes(kind.name)) problems.push('nothing was saved')
      return problems
    }

    if (lostIn.includes('setup')) {
      const second = await world.sandbox(job, kind.env)
      const lost = new Error('the sandbox is lost')
      await second.restore(saved, setup, () => Promise.reject(lost)).catch((error: unknown) => {
        if (error !== lost) throw error
      })
      await second.close()
    }
    const next = await world.sandbox(job, kind.env)
    await next.restore(saved, setup)
    problems.push(...differences('after a move', before, await next.look(), kind.notHeld))
    if (lostIn.includes('push')) {
      const again = await next.commit()
      if (again.sha !== own.sha) problems.push(`the final commit after a move is ${again.sha} on ${again.headSha} in place of ${own.sha} on ${own.headSha}`)
      await next.push(again.sha, saved)
    }
    if (lostIn.includes('step')) {
      await next.run('echo later > "later file"')
      const later = await next.look()
      const savedLater = await next.save(saved)
      await next.close()
      if (savedLater === null) return [...problems, 'what was done after a move was not saved']
      const last = await world.sandbox(job, kind.env)
      await last.restore(savedLater, setup)
      problems.push(...differences('after a second move', later, await last.look(), kind.notHeld))
      await last.close()
    }
    await next.close()
  } catch (error) {
    problems.push(`broke off: ${String(error)}`)
  }
  return problems
}

/** The job's branch against what the agent's own git would have committed. */
async function promoted(world: World, job: Job, site: Site, kind: Kind, sha: string): Promise<string[]> {
  const bare = await world.fetched(job, job.workBranch)
  const problems: string[] = []
  const said = await world.compare(bare, job, sha)
  if (kind.promoted !== undefined) {
    const expected = Object.entries(kind.promoted).map(([path, letter]) => `${letter}\t${path}`).sort().join('\n')
    const got = said.changed.sort().join('\n')
    if (got !== expected) problems.push(`promoted is\n${got}\nin place of\n${expected}`)
  }
  const head = (await site.run("git rev-parse -q --verify 'HEAD^{commit}' || :")).trim()
  if (head !== '' && sha !== head && said.parents.join(' ') !== head) problems.push(`the job's branch has the parents "${said.parents.join(' ')}" and not the agent's HEAD ${head}`)
  if (kind.promoted === undefined) {
    const tree = (await site.run("git add -A && git -c user.name=a -c user.email=a@b.c -c commit.gpgSign=false commit -q --allow-empty --no-verify -m own >&2 && git rev-parse 'HEAD^{tree}'")).trim()
    if (tree !== said.tree) problems.push(`promoted is not what the agent would have committed:\n${await world.treeDiff(bare, site, tree, said.tree)}`)
  }
  return problems
}

/** What differs between two views, a line each. */
export function differences(what: string, before: View, after: View, notHeld: RegExp | undefined): string[] {
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()
  return keys
    .filter((key) => before[key] !== after[key] && notHeld?.test(key) !== true)
    .map((key) => `${what}: ${key}\n    was ${shown(before[key])}\n    is  ${shown(after[key])}`)
}

const shown = (value: string | undefined): string => (value === undefined ? 'not there' : JSON.stringify(value.length > 1_500 ? `${value.slice(0, 1_500)}…` : value))
