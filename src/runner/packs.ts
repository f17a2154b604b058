import { createHash, randomBytes } from 'node:crypto'
import { InfrastructureError } from '../job/errors.js'
import { mostCommits, numberField, shaField, type Answer } from './answer.js'
import type { PackedCommits, PackRequest, PackSource } from './runner.js'
import { nothing, type Reading } from './calls.js'
import { joinText, pieceText, type Upload } from './script.js'

/** Packs on their way into and out of a sandbox. No more than a few pieces are held at a time, however large the pack is. */

/** How many pieces are on their way into a sandbox at once: each is a call of its own, and most of a call's time is waiting. */
const piecesAtOnce = 4
export const blockBytes = 4096
/** The most bytes that one call brings out. As base64 they stay below the 4 MiB of output that every provider takes. */
export const pieceBlocks = 512
/** Packs up to this size come out together with the answer of the call that makes them. */
const inlineBytes = 1024 * 1024

/** More commits that others build on are not named. */
const mostBorders = 200

export interface SendParts {
  readonly pieceBytes: number
  /** Runs one text of the upload `id`, again if need be. */
  readonly put: (id: string, text: string) => Promise<unknown>
}

/** Puts a pack to where `clone` of the script takes it from. */
export async function sendPack(pack: PackSource, parts: SendParts): Promise<void> {
  const shallow = Buffer.from(pack.shallow)
  const readShallow = (offset: number, length: number) => Promise.resolve(shallow.subarray(offset, offset + length))
  await sendFile(`incoming-${pack.name}.shallow`, shallow.length, readShallow, parts)
  await sendFile(`incoming-${pack.name}.pack`, pack.bytes, (offset, length) => pack.read(offset, length), parts)
}

async function sendFile(name: string, bytes: number, read: PackSource['read'], { pieceBytes, put }: SendParts): Promise<void> {
  const upload: Upload = { name, id: randomBytes(8).toString('hex'), bytes, pieces: Math.max(1, Math.ceil(bytes / pieceBytes)) }
  let next = 0
  let failed = false
  const sendSome = async () => {
    while (next < upload.pieces && !failed) {
      const index = next++
      try {
        const piece = await read(index * pieceBytes, Math.min(pieceBytes, bytes - index * pieceBytes))
        await put(upload.id, pieceText(upload, index, piece))
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  const ends = await Promise.allSettled(Array.from({ length: piecesAtOnce }, sendSome))
  const failure = ends.find((end) => end.status === 'rejected')
  if (failure !== undefined) throw failure.reason
  await put(upload.id, joinText(upload))
}

export interface BringParts {
  /** The provider's name, for errors. */
  readonly source: string
  readonly call: <Result>(verb: 'pack' | 'piece' | 'lfs-piece', args: readonly string[], read: Reading<Result>) => Promise<Result>
}

/** The bytes of a piece. */
export const pieceOf = (answer: Answer): Buffer => answer.blobs.get('piece') ?? Buffer.alloc(0)

export async function bringPack({ sha, baseSha, parentSha, maxBytes, write }: PackRequest, { source, call }: BringParts): Promise<PackedCommits> {
  const { packed, inline } = await call('pack', [sha, baseSha, parentSha, String(inlineBytes), String(maxBytes)], (answer) => ({
    packed: { name: shaField(answer, 'name'), bytes: numberField(answer, 'size'), borders: bordersOf(answer), depth: numberField(answer, 'depth', mostCommits), lfsObjects: numberField(answer, 'lfs') },
    inline: answer.blobs.get('pack'),
  }))
  const broken = (what: string) => new InfrastructureError({ kind: 'transient', owner: 'sandbox', source, message: `${source}: the commits came out of the sandbox ${what}; it can be tried again` })
  if (packed.bytes > maxBytes) {
    const message = `${source}: the commits in the sandbox are ${packed.bytes} bytes as a pack, and no more than ${maxBytes} are brought out; let the commands leave less in the work tree, have git ignore it, or raise the limit`
    throw new InfrastructureError({ kind: 'invalid', owner: 'job', source, message })
  }
  const check = new PackCheck()
  const take = async (piece: Buffer, expected: number) => {
    if (piece.length !== expected) throw broken('incomplete')
    check.add(piece)
    await write(piece)
  }
  if (inline !== undefined) await take(inline, packed.bytes)
  else {
    for (let block = 0; block * blockBytes < packed.bytes; block += pieceBlocks) {
      const piece = await call('piece', [packed.name, String(block), String(pieceBlocks)], pieceOf)
      await take(piece, Math.min(pieceBlocks * blockBytes, packed.bytes - block * blockBytes))
    }
  }
  if (check.name() !== packed.name) throw broken('changed')
  if (inline === undefined) await call('piece', [packed.name, '0', '0'], nothing)
  return packed
}

/** What is no list of shas counts as none. */
function bordersOf(answer: Answer): string[] {
  const borders = (answer.fields.get('borders') ?? '').split(' ').filter((sha) => sha !== '')
  return borders.length <= mostBorders && borders.every((sha) => /^[0-9a-f]{40}$/.test(sha)) ? borders : []
}

const checksumBytes = 20

/** Checks the checksum of everything before it that a pack ends with, and by which git names it. */
class PackCheck {
  readonly #hash = createHash('sha1')
  #tail: Buffer = Buffer.alloc(0)

  add(piece: Buffer): void {
    const bytes = Buffer.concat([this.#tail, piece])
    const cut = Math.max(0, bytes.length - checksumBytes)
    this.#hash.update(bytes.subarray(0, cut))
    this.#tail = bytes.subarray(cut)
  }

  /** @returns the checksum, or undefined when it is not that of the bytes. */
  name(): string | undefined {
    const name = this.#hash.digest('hex')
    return this.#tail.toString('hex') === name ? name : undefined
  }
}
