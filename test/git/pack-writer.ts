import { createHash } from 'node:crypto'
import { deflateSync } from 'node:zlib'

/** Writes packs as git never would: small ones that stand for much. */

export interface PackedObject {
  readonly oid: string
  /** Header and deflated content. */
  readonly bytes: Buffer
}

const types = { commit: 1, tree: 2, blob: 3, refDelta: 7 } as const

export function object(type: 'commit' | 'tree' | 'blob', content: Buffer): PackedObject {
  return { oid: createHash('sha1').update(`${type} ${content.length}\0`).update(content).digest('hex'), bytes: Buffer.concat([header(types[type], content.length), deflateSync(content, { level: 1 })]) }
}

/** Blobs that are another one, each with something after it, which is as long for all. Each takes a few bytes. */
export function longer(base: PackedObject, content: Buffer, ends: readonly string[]): PackedObject[] {
  const addedBytes = ends[0]?.length ?? 0
  const copies: Buffer[] = []
  for (let offset = 0; offset < content.length; offset += 0xffff00) copies.push(copy(offset, Math.min(0xffff00, content.length - offset)))
  const common = createHash('sha1').update(`blob ${content.length + addedBytes}\0`).update(content)
  return ends.map((end) => {
    const delta = Buffer.concat([varint(content.length), varint(content.length + addedBytes), ...copies, Buffer.from([addedBytes]), Buffer.from(end)])
    const bytes = Buffer.concat([header(types.refDelta, delta.length), Buffer.from(base.oid, 'hex'), deflateSync(delta)])
    return { oid: common.copy().update(end).digest('hex'), bytes }
  })
}

export function tree(files: Readonly<Record<string, PackedObject>>): PackedObject {
  const entries = Object.entries(files).sort(([left], [right]) => (left < right ? -1 : 1))
  return object('tree', Buffer.concat(entries.flatMap(([name, { oid }]) => [Buffer.from(`100644 ${name}\0`), Buffer.from(oid, 'hex')])))
}

export function commit(of: PackedObject, parent: string): PackedObject {
  const person = 'A <a@example.invalid> 1700000000 +0000'
  return object('commit', Buffer.from(`tree ${of.oid}\nparent ${parent}\nauthor ${person}\ncommitter ${person}\n\nLarge\n`))
}

export function pack(objects: readonly PackedObject[]): { readonly name: string; readonly content: Buffer } {
  const start = Buffer.alloc(12)
  start.write('PACK')
  start.writeUInt32BE(2, 4)
  start.writeUInt32BE(objects.length, 8)
  const body = Buffer.concat([start, ...objects.map(({ bytes }) => bytes)])
  const checksum = createHash('sha1').update(body).digest()
  return { name: checksum.toString('hex'), content: Buffer.concat([body, checksum]) }
}

function header(type: number, size: number): Buffer {
  const bytes = [(type << 4) | (size & 15)]
  for (let rest = Math.floor(size / 16); rest > 0; rest = Math.floor(rest / 128)) {
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) | 0x80
    bytes.push(rest & 0x7f)
  }
  return Buffer.from(bytes)
}

function varint(size: number): Buffer {
  const bytes: number[] = []
  for (let rest = size; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest])
    bytes.push((rest % 128) | 0x80)
  }
}

function copy(offset: number, size: number): Buffer {
  const fields = Buffer.alloc(8)
  fields[0] = 0xff
  fields.writeUInt32LE(offset, 1)
  fields.writeUIntLE(size, 5, 3)
  return fields
}
