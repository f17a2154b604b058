import { appendFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { bodyOf, checked, parsedJson, type ApiContext } from './request.js'
import { ApiProblem } from './problem.js'

/** The most that a chunk may hold, in bytes. */
const maxChunkBytes = 4 * 1024 * 1024
/** The longest line: such a chunk in base64 with its names around it, or the metadata. */
const maxLineBytes = Math.ceil(maxChunkBytes / 3) * 4 + 64 * 1024

const encoded = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/, 'is not base64')
const chunk = z.object({ content_id: z.string().min(1).max(200).default('diff'), data: encoded.default(''), eof: z.boolean().default(false) })
const chunkLine = z.union([z.object({ blob_chunk: chunk }).transform((line) => line.blob_chunk), z.object({ diff_chunk: chunk }).transform((line) => line.diff_chunk)], {
  error: 'is not a chunk with its content_id, its data in base64 and eof',
})
const firstLine = z.object({ metadata: z.unknown() })

/** What came with a commit: a file for each content, in the order in which they began. */
export interface Contents {
  readonly files: ReadonlyMap<string, string>
  readonly bytes: number
}

/**
 * Reads the body of a commit, which is a line of metadata and lines of content, and writes each content to a file as it comes:
 * no more than one line is ever held.
 * @param onMetadata checks the first line, before any content is taken.
 * @throws ApiProblem 400 or 413.
 */
export async function readCommitStream<Metadata>(context: ApiContext, folder: string, onMetadata: (metadata: unknown) => Promise<Metadata>): Promise<{ metadata: Metadata; contents: Contents }> {
  let metadata: { value: Metadata } | undefined
  const files = new Map<string, string>()
  const ended = new Set<string>()
  let bytes = 0
  for await (const line of lines(bodyOf(context))) {
    const value = parsedJson(line, metadata === undefined ? 'the first line' : 'a line')
    if (metadata === undefined) {
      metadata = { value: await onMetadata(checked(firstLine, value).metadata) }
      continue
    }
    const { content_id: id, data, eof } = checked(chunkLine, value)
    if (ended.has(id)) throw new ApiProblem(400, `content_id: "${id}" goes on behind its eof`)
    const content = Buffer.from(data, 'base64')
    if (content.length > maxChunkBytes) throw new ApiProblem(413, `a chunk is longer than ${maxChunkBytes} bytes`)
    const path = files.get(id) ?? join(folder, `content-${files.size}`)
    if (files.has(id)) await appendFile(path, content)
    else await writeFile(path, content, { flag: 'wx', mode: 0o600 })
    files.set(id, path)
    if (eof) ended.add(id)
    bytes += content.length
  }
  if (metadata === undefined) throw new ApiProblem(400, 'the body is empty; its first line is {"metadata": …}')
  const open = [...files.keys()].find((id) => !ended.has(id))
  if (open !== undefined) throw new ApiProblem(400, `content_id: "${open}" has no end; its last chunk says "eof": true`)
  return { metadata: metadata.value, contents: { files, bytes } }
}

async function* lines(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let pieces: Uint8Array[] = []
  let length = 0
  const taken = () => {
    const text = Buffer.concat(pieces).toString('utf8')
    pieces = []
    length = 0
    return text
  }
  for await (const piece of body) {
    let start = 0
    for (let end = piece.indexOf(10); end !== -1; end = piece.indexOf(10, start)) {
      pieces.push(piece.subarray(start, end))
      start = end + 1
      const line = taken()
      if (line.trim() !== '') yield line
    }
    pieces.push(piece.subarray(start))
    length += piece.length - start
    if (length > maxLineBytes) throw new ApiProblem(413, `a line is longer than ${maxLineBytes} bytes; send the content in more chunks`)
  }
  const last = taken()
  if (last.trim() !== '') yield last
}
