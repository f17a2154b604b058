import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * What processes that were killed leave in a repository: the quarantine of a push (`tmp_objdir-…`, of older git `incoming-…`), halves of packs and objects
 * (`tmp_…`), locks, the drafts of the API's own commits (`tmp-…`) and of LFS objects (`arriving-…`). Nobody else removes them: git
 * does so at the end of a command, and by its collection of garbage only what is two weeks old.
 */
const leftover = /^(?:tmp_|tmp-|incoming-|arriving-|shallow_)|\.lock$/
/** Where they can be. Below `refs` anything that ends with `.lock` is one: no ref may. */
const places = ['.', 'objects', 'objects/pack', 'objects/info', 'lfs', 'worktrees']

/** Removes them from one repository, in which no git runs. */
export async function removeLeftovers(repository: string): Promise<void> {
  for (const place of places) {
    const names = await namesIn(join(repository, place))
    const objects = place === 'objects' ? names.filter((name) => /^[0-9a-f]{2}$/.test(name)) : []
    for (const name of names.filter((found) => leftover.test(found))) await rm(join(repository, place, name), { recursive: true, force: true })
    for (const folder of objects) {
      for (const name of await namesIn(join(repository, place, folder))) if (leftover.test(name)) await rm(join(repository, place, folder, name), { force: true })
    }
  }
  await removeLocks(join(repository, 'refs'))
}

async function removeLocks(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) await removeLocks(path)
    else if (entry.name.endsWith('.lock')) await rm(path, { force: true })
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw error
  }
}

/**
 * Whether a server of another process that still lives has these data. Says that this process has them now where none does.
 * A number that some other program got meanwhile keeps leftovers for one more start, no more.
 */
export async function ownedByAnother(dataDir: string): Promise<boolean> {
  const file = join(dataDir, 'server.pid')
  const pid = Number(await readFile(file, 'utf8').catch(() => '0'))
  if (Number.isInteger(pid) && pid > 0 && pid !== process.pid && isAlive(pid)) return true
  await writeFile(file, `${process.pid}\n`, { mode: 0o600 })
  return false
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
