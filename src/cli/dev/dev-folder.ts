import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { devOwnerFile, readDevOwner, type DevOwner } from '../../config/dev-owner.js'
import { devConfigPath } from '../../config/load.js'
import { InvalidInputError } from '../../job/errors.js'
import { identify, isAlive } from '../../providers/local/process-identity.js'

/**
 * The folder of a running `switchyard dev`, `.switchyard/dev`: no two in one place. It is `free` → (`claim`) → `held`, by the process that
 * `owner.json` names → (`release`) → `free`. One whose owner has died, by SIGKILL or with the machine, is `left`: whoever claims next gets it
 * to clean up.
 */
export interface DevFolder {
  readonly path: string
  /** What jobs made and could not be brought home is kept in here, beside it. */
  readonly kept: string
  /** Of a `dev` that died: what it held, and where it came from. */
  readonly left: LeftFolder | undefined
  /** Writes down where the repositories came from, for whoever finds the folder when this process has died. */
  note(origins: readonly Origin[]): Promise<void>
  /** Removes all that is not kept. */
  release(): Promise<void>
}

export interface LeftFolder {
  readonly path: string
  readonly origins: readonly Origin[]
}

/** A repository, and the folder that it was filled from. */
export interface Origin {
  readonly repository: string
  readonly source: string
  /** The commit that it was filled with. */
  readonly head?: string | undefined
}

const ignoreAll = '# Made by "switchyard dev".\n*\n'

/**
 * @param top the folder in which `.switchyard` is.
 * @throws InvalidInputError while another one runs there.
 */
export async function claimDevFolder(top: string, origins: readonly Origin[]): Promise<DevFolder> {
  const path = dirname(join(top, devConfigPath))
  const parent = dirname(path)
  const ignored = join(parent, '.gitignore')
  // This folder is most often a repository, and what lies in there (a password, the sandboxes) is no part of it.
  await mkdir(parent, { recursive: true })
  await writeFile(ignored, ignoreAll, { flag: 'wx', mode: 0o600 }).catch(unlessThere)
  const made = await mkdtemp(join(parent, '.new-'))
  try {
    const { startTime = '' } = (await identify(process.pid)) ?? {}
    const note = (folder: string, from: readonly Origin[]) => writeFile(join(folder, devOwnerFile), JSON.stringify({ pid: process.pid, startTime, origins: [...from] } satisfies DevOwner), { mode: 0o600 })
    await note(made, origins)
    const left = await lookAt(path, parent)
    // Whoever is second finds a folder that is not empty.
    await rename(made, path).catch((error: unknown) => {
      throw ['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '') ? runsAlready(path) : error
    })
    return {
      path,
      kept: join(parent, 'kept'),
      left,
      note: (from) => note(path, from),
      async release() {
        await rm(path, { recursive: true, force: true, maxRetries: 5 })
        await removeOwn(parent, ignored)
      },
    }
  } catch (error) {
    await rm(made, { recursive: true, force: true })
    if (!existsSync(path)) await removeOwn(parent, ignored)
    throw error
  }
}

/** What a `dev` that died left, out of the way. @throws InvalidInputError when it lives. */
async function lookAt(path: string, parent: string): Promise<LeftFolder | undefined> {
  if (existsSync(path)) {
    const owner = await readDevOwner(path)
    if (owner !== undefined && (await isAlive(owner))) throw runsAlready(path, owner.pid)
    await rename(path, join(parent, `.left-${process.pid}-${Date.now()}`)).catch(unlessGone)
  }
  // One that was being cleaned up when its cleaner died is there still.
  const [name] = (await readdir(parent)).filter((each) => each.startsWith('.left-')).sort()
  if (name === undefined) return undefined
  return { path: join(parent, name), origins: (await readDevOwner(join(parent, name)))?.origins ?? [] }
}

function runsAlready(path: string, pid?: number): InvalidInputError {
  return new InvalidInputError(`dev: ${path} is there already: another "switchyard dev" runs in this folder${pid === undefined ? '' : ` (process ${pid})`}; stop it, or use another folder`)
}

/** Somebody else's things may be in there; only a folder that holds nothing but what tells git to look away goes. */
async function removeOwn(folder: string, ignored: string): Promise<void> {
  const [names, text] = await Promise.all([readdir(folder).catch(() => []), readFile(ignored, 'utf8').catch(() => '')])
  if (names.length === 1 && text === ignoreAll) await rm(ignored, { force: true })
  await rmdir(folder).catch(() => undefined)
}

function unlessThere(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error
}

function unlessGone(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}
