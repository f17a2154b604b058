import { execFile } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { chmod, chown, lstat, mkdir, readdir, readFile, readlink, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import type { Stats } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import { InvalidInputError } from '../../job/errors.js'
import { isAlive, parseIdentity, type ProcessIdentity } from './process-identity.js'

/** Which way a sandbox with namespaces is made and entered. Another release's may be another: its sandboxes are lost to this one. */
export const shape = 2

/** The seccomp program in a sandbox's folder. */
export const filterFile = 'seccomp.bpf'

/**
 * A provider's sandboxes on disk, shared by every process that uses the provider. Nothing here is locked: each change
 * is one rename, one exclusive symlink or one exclusive mkdir.
 *
 *   names/<name>              symlink whose target is the id: who makes it, has the name
 *   users/<number>            the same for the host's user that a root consumer's sandbox is of
 *   sandboxes/<id>/meta.json  written before the folder gets this name, never changed
 *   sandboxes/<id>/deadline   seconds since 1970; replaced by `extend`, read by holder.sh
 *   sandboxes/<id>/holder     identity of the process that holds the sandbox, written by itself
 *   sandboxes/<id>/init       identity of the sandbox's first process, written by the holder once it is up
 *   sandboxes/<id>/*.sh, …    what holds it, what is its first process, what gives it a network, its seccomp program
 *   sandboxes/<id>/home, tmp  all that a sandbox with namespaces can write; nothing in there is ever read from outside
 *   sandboxes/.dead-<id>      a sandbox that is being killed, or was when the killer died
 *
 * A sandbox is `starting` (no init yet; its creator lives or it is young) → `live` (its init lives) → `dead`.
 */
export class LocalState {
  readonly #sandboxes: string
  readonly #names: string
  readonly #users: string

  constructor(readonly root: string) {
    this.#sandboxes = join(root, 'sandboxes')
    this.#names = join(root, 'names')
    this.#users = join(root, 'users')
  }

  /**
   * Makes the folders. Nobody else on this machine may look into them, and none that somebody else made is taken: whoever could write
   * there would say what runs in this user's name.
   * @throws InvalidInputError that names the folder, its problem and the mend.
   */
  async prepare(): Promise<void> {
    for (const folder of [dirname(this.root), this.root, this.#sandboxes, this.#names, this.#users]) {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const problem = folderProblem(await lstat(folder), await stat(folder), process.getuid?.(), folder !== dirname(this.root))
      if (problem !== undefined) throw new InvalidInputError(`stateDir: ${folder} ${problem}; remove it, or set stateDir to a folder of this user's own`)
      if (folder !== dirname(this.root)) await chmod(folder, 0o700)
    }
  }

  folder(id: string): string {
    return join(this.#sandboxes, id)
  }

  /** Writes a new sandbox's folder. Where that fails nothing is left: on a disk that is full every try would take more of it. */
  async add(meta: SandboxMeta, files: Readonly<Record<string, string | Buffer>>): Promise<void> {
    const folder = join(this.#sandboxes, `.new-${meta.id}`)
    try {
      await this.#write(folder, meta, files)
    } catch (error) {
      // What can't be removed now goes with the rest of a creator that died, see `doomed`.
      const left = [rm(folder, { recursive: true, force: true }), ...(meta.user === null ? [] : [this.#releaseUser(meta.id, meta.user)])]
      await Promise.allSettled(left)
      throw error
    }
  }

  async #write(folder: string, meta: SandboxMeta, files: Readonly<Record<string, string | Buffer>>): Promise<void> {
    await mkdir(folder, { mode: 0o700 })
    for (const own of [join(folder, 'home'), join(folder, 'tmp')]) {
      await mkdir(own, { mode: 0o700 })
      if (meta.user !== null) await chown(own, meta.user, meta.user)
    }
    for (const [name, text] of Object.entries({ ...files, 'meta.json': JSON.stringify(meta) })) {
      // The folder is closed to others; some of these are laid out for the sandbox's user.
      await writeFile(join(folder, name), text, { mode: meta.user === null ? 0o600 : 0o644 })
    }
    await rename(folder, this.folder(meta.id))
  }

  /** @returns the id that has the name: `id` when nobody had it, else the one that does. */
  async claimName(name: string, id: string): Promise<string> {
    try {
      await symlink(id, join(this.#names, name))
      return id
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error
      return (await readlink(join(this.#names, name)).catch(ignoreMissing)) ?? this.claimName(name, id)
    }
  }

  /** Gives a name free that `id` has, after that sandbox's end. */
  async releaseName(name: string, id: string): Promise<void> {
    const link = join(this.#names, name)
    if ((await readlink(link).catch(ignoreMissing)) === id) await rm(link, { force: true })
  }

  /** @returns a number from `first` to `last` that no other sandbox of this provider has. */
  async claimUser(id: string, first: number, last: number): Promise<number> {
    for (let tries = 0; tries < 2 * (last - first + 1); tries++) {
      // Not in order: another provider of this machine that knows nothing of this one begins elsewhere.
      const user = randomInt(first, last + 1)
      const made = await symlink(id, join(this.#users, String(user))).then(() => true, ignoreExisting)
      if (made === true) return user
    }
    throw new Error('there is no user number left for another sandbox')
  }

  /** Gives numbers free that a creator had claimed when it died, before it wrote a folder, a minute ago at least. */
  async releaseStaleUsers(nowMs = Date.now()): Promise<void> {
    for (const name of (await readdir(this.#users).catch(ignoreMissing)) ?? []) {
      const link = join(this.#users, name)
      const [id, made] = await Promise.all([readlink(link).catch(ignoreMissing), lstat(link).catch(ignoreMissing)])
      if (id === undefined || made === undefined || made.mtimeMs > nowMs - 60_000) continue
      const folders = await Promise.all([this.folder(id), this.#dead(id)].map((folder) => lstat(folder).catch(ignoreMissing)))
      if (folders.every((folder) => folder === undefined)) await rm(link, { force: true })
    }
  }

  async #releaseUser(id: string, user: number): Promise<void> {
    const link = join(this.#users, String(user))
    if ((await readlink(link).catch(ignoreMissing)) === id) await rm(link, { force: true })
  }

  async read(id: string): Promise<SandboxRecord | undefined> {
    return isSandboxId(id) ? this.#readFolder(this.folder(id)) : undefined
  }

  async #readFolder(folder: string): Promise<SandboxRecord | undefined> {
    const text = await readFile(join(folder, 'meta.json'), 'utf8').catch(ignoreMissing)
    if (text === undefined) return undefined
    const meta = metaSchema.parse(JSON.parse(text))
    const [deadline, holder, init] = await Promise.all(
      ['deadline', 'holder', 'init'].map((name) => readFile(join(folder, name), 'utf8').catch(ignoreMissing)),
    )
    return {
      meta,
      expiresAtMs: Number(deadline ?? 0) * 1000,
      holder: parseIdentity(holder ?? ''),
      init: parseIdentity(init ?? ''),
    }
  }

  /** Every sandbox whose folder is there, in the order of its name; dead ones too. */
  async *records(): AsyncIterable<SandboxRecord> {
    for (const id of (await readdir(this.#sandboxes).catch(ignoreMissing)) ?? []) {
      const record = await this.read(id)
      if (record !== undefined) yield record
    }
  }

  /** Ids of sandboxes that somebody began to kill. */
  async doomed(): Promise<string[]> {
    const names = (await readdir(this.#sandboxes).catch(ignoreMissing)) ?? []
    // A folder that never got its name: its creator died while it wrote it, a minute ago at least.
    for (const name of names.filter((each) => each.startsWith('.new-'))) {
      const made = await stat(join(this.#sandboxes, name)).catch(ignoreMissing)
      if (made !== undefined && made.mtimeMs < Date.now() - 60_000) {
        await rename(join(this.#sandboxes, name), this.#dead(name.slice('.new-'.length))).catch(ignoreMissing)
      }
    }
    return names.filter((name) => name.startsWith('.dead-')).map((name) => name.slice('.dead-'.length))
  }

  /** Makes the deadline later; an earlier one than there is changes nothing. */
  async setDeadline(id: string, atMs: number): Promise<void> {
    const file = join(this.folder(id), 'deadline')
    const now = Number(await readFile(file, 'utf8').catch(ignoreMissing))
    const seconds = Math.ceil(atMs / 1000)
    if (now >= seconds) return
    const next = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}`
    try {
      await writeFile(next, `${seconds}\n`, { mode: 0o600 })
      await rename(next, file)
    } catch (error) {
      await rm(next, { force: true })
      throw error
    }
  }

  /**
   * Takes a sandbox away from everybody: its holder can't start it any more, and ends it when it sees that its folder is gone.
   * @returns what is known of it, also when another process did so before; undefined when nothing is left of it.
   */
  async doom(id: string): Promise<SandboxRecord | undefined> {
    if (!isSandboxId(id)) return undefined
    await rename(this.folder(id), this.#dead(id)).catch(ignoreMissing)
    return this.#readFolder(this.#dead(id))
  }

  /** Reads again what the holder may have written until its folder was moved. */
  readDoomed(id: string): Promise<SandboxRecord | undefined> {
    return this.#readFolder(this.#dead(id))
  }

  /**
   * Removes a doomed sandbox's files. By `rm`, which neither follows a link nor minds how deep a folder is; folders that
   * the sandbox made unreadable are made readable first. Its processes must be gone.
   */
  async removeDoomed(id: string, user: number | null): Promise<void> {
    const run = promisify(execFile)
    const folder = this.#dead(id)
    await run('rm', ['-rf', '--', folder]).catch(async () => {
      await run('chmod', ['-R', 'u+rwx', '--', folder]).catch(() => undefined)
      await run('rm', ['-rf', '--', folder])
    })
    if (user !== null) await this.#releaseUser(id, user)
  }

  #dead(id: string): string {
    return join(this.#sandboxes, `.dead-${id}`)
  }
}

/**
 * Why a folder can't be trusted with what runs in this user's name; undefined when it can.
 * @param own whether it is one of the provider's own folders, or the one that the user named, which may be root's, a link or open to readers.
 */
function folderProblem(link: Stats, folder: Stats, uid: number | undefined, own: boolean): string | undefined {
  if (!folder.isDirectory() || (own && link.isSymbolicLink())) return 'is a link or no folder'
  if (uid === undefined) return undefined
  const stranger = [link, folder].find((each) => each.uid !== uid && (own || each.uid !== 0))
  if (stranger !== undefined) return `belongs to another user (uid ${stranger.uid})`
  // Others may add to a folder such as /tmp, but not replace what is there.
  if (!own && (folder.mode & 0o022) !== 0 && (folder.mode & 0o1000) === 0) return 'can be written by others'
  return undefined
}

const identitySchema = z.object({ pid: z.int(), startTime: z.string() })

const metaSchema = z.object({
  id: z.string(),
  name: z.string(),
  tags: z.record(z.string(), z.string()),
  createdAtMs: z.number(),
  isolation: z.enum(['bubblewrap', 'none']),
  shape: z.int().default(1),
  /** The network namespace: this machine's, its own with a way out, its own without. */
  network: z.enum(['shared', 'open', 'none']),
  /** The host's user that it is of; null for the consumer's own. */
  user: z.int().nullable().default(null),
  /** Whether commands run under its seccomp program. */
  filtered: z.boolean().default(false),
  /** The CPUs that it may use, as taskset takes them; null for all. */
  cpus: z.string().nullable(),
  /** Folders of its cgroups. */
  cgroups: z.array(z.string()),
  /** Its slice of this user's systemd; null where it has none. */
  slice: z.string().nullable().default(null),
  watchedMemoryKiB: z.int(),
  maxProcesses: z.int(),
  maxOpenFiles: z.int().default(65_536),
  maxFileMiB: z.int().nullable(),
  creator: identitySchema,
})
export type SandboxMeta = z.output<typeof metaSchema>

export interface SandboxRecord {
  readonly meta: SandboxMeta
  readonly expiresAtMs: number
  readonly holder: ProcessIdentity | undefined
  readonly init: ProcessIdentity | undefined
}

/** How long after its creation a sandbox may be without a holder: while its creator lives, and after its death. */
const startingMs = { alive: 60_000, dead: 10_000 }

export async function sandboxPhase(record: SandboxRecord, nowMs: number): Promise<'starting' | 'live' | 'dead'> {
  if (record.init !== undefined) return (await isAlive(record.init)) ? 'live' : 'dead'
  if (record.holder !== undefined) return (await isAlive(record.holder)) ? 'starting' : 'dead'
  const withinMs = startingMs[(await isAlive(record.meta.creator)) ? 'alive' : 'dead']
  return nowMs < record.meta.createdAtMs + withinMs ? 'starting' : 'dead'
}

/** An id comes back from callers and becomes part of a path. */
export function isSandboxId(text: string): boolean {
  return /^[a-z0-9][a-z0-9-]{0,62}\.[0-9a-f]{12}$/.test(text)
}

function errorCode(error: unknown): unknown {
  return (error as NodeJS.ErrnoException).code
}

function ignoreExisting(error: unknown): undefined {
  if (errorCode(error) !== 'EEXIST') throw error
}

function ignoreMissing(error: unknown): undefined {
  if (errorCode(error) !== 'ENOENT') throw error
}
