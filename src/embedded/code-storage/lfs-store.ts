import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ApiProblem } from './problem.js'
import type { Repository } from './repositories.js'

/** A SHA-256 in hex: nothing that a path could climb by. */
const oidPattern = /^[0-9a-f]{64}$/

export const isOid = (text: string): boolean => oidPattern.test(text)

/** A repository's LFS objects: a file each below its folder, named by their SHA-256. Both namespaces share them. */
export class LfsStore {
  readonly #folder: string

  constructor(
    repository: Pick<Repository, 'path'>,
    private readonly maxObjectBytes: number,
  ) {
    this.#folder = join(repository.path, 'lfs')
  }

  /** @returns its size in bytes; null when it is not here. */
  async size(oid: string): Promise<number | null> {
    try {
      return (await stat(this.#path(oid))).size
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
  }

  read(oid: string, start: number): Readable {
    return createReadStream(this.#path(oid), { start })
  }

  /**
   * Takes an object as it comes, without holding it. It is there once all of it is here and is what its name says, or not at all.
   * @throws ApiProblem 413 when it is too large, 422 when it is something else.
   */
  async write(oid: string, content: Readable, onBytes: (bytes: number) => void): Promise<void> {
    const arriving = join(this.#folder, `arriving-${randomUUID()}`)
    await mkdir(this.#folder, { recursive: true })
    const hash = createHash('sha256')
    let bytes = 0
    const check = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        bytes += chunk.length
        onBytes(chunk.length)
        if (bytes > this.maxObjectBytes) {
          done(new ApiProblem(413, `the object is larger than ${this.maxObjectBytes} bytes, which is all that the local Code Storage takes`))
          return
        }
        hash.update(chunk)
        done(null, chunk)
      },
    })
    try {
      await pipeline(content, check, createWriteStream(arriving, { flags: 'wx', mode: 0o600, flush: true }))
      if (hash.digest('hex') !== oid) throw new ApiProblem(422, `the SHA-256 of what was sent is not ${oid}`)
      const path = this.#path(oid)
      await mkdir(join(path, '..'), { recursive: true })
      await rename(arriving, path)
    } finally {
      await rm(arriving, { force: true })
    }
  }

  #path(oid: string): string {
    if (!isOid(oid)) throw new ApiProblem(404, 'an object is named by its SHA-256, 64 hexadecimal digits')
    return join(this.#folder, 'objects', oid.slice(0, 2), oid.slice(2, 4), oid)
  }
}
