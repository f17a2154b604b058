import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, copyFile, mkdir, realpath, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { errorMessage, InfrastructureError, InvalidInputError } from '../job/errors.js'
import type { ArtifactLimits, ArtifactStore, StoredObject } from './store.js'

/** A folder at the consumers: of one machine, or a volume that they share. */
export class FolderStore implements ArtifactStore {
  readonly name: string
  readonly #folder: string

  constructor(
    folder: string,
    readonly limits: ArtifactLimits,
  ) {
    this.#folder = resolve(folder)
    this.name = `folder ${this.#folder}`
  }

  async put({ key, content }: StoredObject): Promise<string> {
    const path = join(this.#folder, key)
    // Beside it, so that a rename is all that makes it whole, and never under a name that a job could give.
    const arriving = join(this.#folder, '.incoming', randomBytes(12).toString('hex'))
    try {
      await mkdir(dirname(arriving), { recursive: true })
      await mkdir(dirname(path), { recursive: true })
      if ('bytes' in content) await writeFile(arriving, content.bytes, { flag: 'wx' })
      else await copyFile(content.file, arriving, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
      await rename(arriving, path)
    } catch (error) {
      await rm(arriving, { force: true }).catch(() => undefined)
      throw this.#problem('an artifact can’t be written', error)
    }
    return pathToFileURL(path).href
  }

  async link(where: string): Promise<string> {
    const path = where.startsWith('file:') ? fileURLToPath(where) : undefined
    if (path === undefined || !path.startsWith(`${this.#folder}${sep}`)) throw new InvalidInputError(`artifacts: ${where} is not in the ${this.name}; configure the store that the consumers have`)
    try {
      // A link that somebody put there would lead elsewhere.
      const real = await realpath(path)
      if (!real.startsWith(`${await realpath(this.#folder)}${sep}`)) throw new InvalidInputError(`artifacts: ${where} leads out of the ${this.name}`)
      return pathToFileURL(real).href
    } catch (error) {
      throw error instanceof InvalidInputError ? error : this.#problem('an artifact can’t be found', error)
    }
  }

  async check(): Promise<readonly string[]> {
    try {
      await mkdir(this.#folder, { recursive: true })
      await access(this.#folder, constants.W_OK | constants.X_OK)
      return []
    } catch (error) {
      throw this.#problem('it can’t be written to', error)
    }
  }

  close(): void {
    // Nothing is open between calls.
  }

  #problem(what: string, error: unknown): InfrastructureError {
    const code = (error as NodeJS.ErrnoException).code ?? errorMessage(error)
    return new InfrastructureError({ kind: 'invalid', owner: 'consumer-configuration', source: this.name, message: `artifacts: ${this.name}: ${what} (${code}); look at the folder's rights and room at the consumer`, cause: error })
  }
}
