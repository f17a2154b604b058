import { InfrastructureError } from '../job/errors.js'
import { artifactExpression, artifactPathProblem, literalPart, NamedPaths } from '../job/artifact-patterns.js'
import { linesOf, MalformedAnswer, type Answer } from './answer.js'
import type { Reading } from './calls.js'
import { blockBytes, pieceBlocks, pieceOf } from './packs.js'
import type { ArtifactListing, ListedArtifact, OddArtifact } from './runner.js'
import { quote } from './script.js'

/** Artifacts, as the script is asked for them and as it tells of them: names and sizes are checked here, contents are bounded by them. */

/** The arguments that ask for what patterns name. */
export function artifactArguments(patterns: readonly string[]): string[] {
  return patterns.flatMap((pattern) => [literalPart(pattern), artifactExpression(pattern)])
}

const oddities: Readonly<Record<string, string>> = {
  L: 'it is a link, and links are not followed',
  W: 'a link leads to it, and links are not followed',
  S: 'it is no regular file: a device, a socket or a named pipe',
  U: "the sandbox's user can't read it",
}

/** @throws MalformedAnswer for what the script never says. */
export async function artifactListing(answer: Answer, patterns: readonly string[], most: number, signal?: AbortSignal): Promise<ArtifactListing> {
  const files = new Map<string, ListedArtifact>()
  const odd: OddArtifact[] = []
  let [more, unfinished] = [false, false]
  const lines = linesOf(answer, 'files')
  const named = new NamedPaths(patterns, signal)
  // Each pattern says at most once that it took too long, or that its folder is a link.
  if (lines.length > most + 1 + 2 * patterns.length) throw new MalformedAnswer('it names too many files')
  for (const line of lines) {
    const [, letter, oddPath, size, filePath] = /^(?:([LWSUN]) (.*)|F (\d{1,15}) (.*))$/s.exec(line) ?? []
    const path = oddPath ?? filePath
    if (line === 'M') more = true
    else if (line === 'T') unfinished = true
    else if (path === undefined) throw new MalformedAnswer('its list of files is not what it should be')
    else {
      const problem = artifactPathProblem(path) ?? (letter === undefined ? undefined : (oddities[letter] ?? 'its name can’t be an artifact’s'))
      if (problem !== undefined) odd.push({ path: path.slice(0, 600), reason: problem })
      // What matches is decided here: the script may find a little more.
      else if (await named.has(path)) files.set(path, { path, sizeBytes: Number(size) })
    }
  }
  return { files: [...files.values()], odd, more, unfinished }
}

/** Files up to this size come out several in a call. */
export const smallArtifactBytes = 256 * 1024
/** How much of them one call brings: as base64 twice over it stays below the 4 MiB of output that every provider takes. */
const groupBytes = 1024 * 1024
const groupFiles = 100

/** Small files as they come out together: bounded by what they hold, and by the text that asks for them. */
export function* artifactGroups(files: readonly ListedArtifact[], maxTextBytes: number): Generator<readonly ListedArtifact[]> {
  // What stands around the names in the text of a call.
  const room = maxTextBytes - 2_000
  let [group, bytes, text]: [ListedArtifact[], number, number] = [[], 0, 0]
  for (const file of files) {
    const words = Buffer.byteLength(quote(file.path)) + 12
    if (group.length > 0 && (group.length === groupFiles || bytes + file.sizeBytes > groupBytes || text + words > room)) {
      yield group
      ;[group, bytes, text] = [[], 0, 0]
    }
    group.push(file)
    bytes += file.sizeBytes
    text += words
  }
  if (group.length > 0) yield group
}

/** The contents of a group, in its order; null for what is gone, "unfinished" for what could not be read to its end. @throws MalformedAnswer for more than was asked for. */
export function artifactContents(answer: Answer, group: readonly ListedArtifact[]): (Buffer | null | 'unfinished')[] {
  const lines = (answer.blobs.get('files')?.toString('latin1') ?? '').split('\n')
  if (lines.length !== group.length + 1) throw new MalformedAnswer('it holds other files than were asked for')
  return group.map(({ sizeBytes }, index) => {
    if (lines[index] === '-') return null
    if (lines[index]?.includes('!') === true) return 'unfinished'
    const content = Buffer.from(lines[index] ?? '', 'base64')
    if (content.length > sizeBytes) throw new MalformedAnswer('it holds more of a file than was asked for')
    return content
  })
}

/**
 * A file's bytes, in pieces, as many as were listed: what it grows by since then is left out.
 * @throws InfrastructureError `invalid` when it has become less.
 */
export async function* artifactPieces({ path, sizeBytes }: ListedArtifact, source: string, call: (block: number, blocks: number, read: Reading<Buffer>) => Promise<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  for (let block = 0; block * blockBytes < sizeBytes; block += pieceBlocks) {
    const piece = await call(block, pieceBlocks, (answer) => {
      const bytes = pieceOf(answer)
      if (bytes.length > pieceBlocks * blockBytes) throw new MalformedAnswer('it holds more of a file than was asked for')
      return bytes
    })
    const expected = Math.min(pieceBlocks * blockBytes, sizeBytes - block * blockBytes)
    if (piece.length < expected) throw new InfrastructureError({ kind: 'invalid', owner: 'job', source, message: `${source}: "${path}" became shorter while it was read, or could not be read to its end` })
    yield piece.subarray(0, expected)
  }
}
