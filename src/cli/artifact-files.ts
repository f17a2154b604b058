import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { createArtifactStore, type ArtifactStore } from '../artifacts/index.js'
import { withKeyFiles } from '../config/key-files.js'
import { artifactPathProblem } from '../job/artifact-patterns.js'
import type { Artifact } from '../job/artifacts.js'
import { InvalidInputError, SwitchyardError } from '../job/errors.js'
import { harmlessLine } from '../job/harmless-text.js'
import { configOf, type SharedFlags } from './shared-options.js'

/** An artifact and a link that opens it for a while. */
export type LinkedArtifact = Artifact & { readonly link: string }

/** @throws InvalidInputError when the configuration names no store. */
export async function storeOf(flags: SharedFlags): Promise<ArtifactStore> {
  const { config, path } = await configOf(flags)
  if (config.artifacts === undefined) throw new InvalidInputError('artifacts: is missing in the configuration; give the store that the consumers have, such as { s3: { bucket: "…" } }')
  const directory = path === undefined ? '.' : dirname(path)
  return createArtifactStore(config.artifacts, { directory, environment: withKeyFiles(process.env, config.keyFiles, directory) })
}

export async function linked(store: ArtifactStore, artifacts: readonly Artifact[], options: { readonly expiresInSeconds: number }): Promise<LinkedArtifact[]> {
  return await Promise.all(artifacts.map(async (artifact) => ({ ...artifact, link: await store.link(artifact.where, options) })))
}

/**
 * Fetches artifacts into a folder, one after the other, as streams.
 * @returns their paths.
 * @throws SwitchyardError for one whose bytes are not those that were stored.
 */
export async function download(artifacts: readonly LinkedArtifact[], folder: string): Promise<string[]> {
  const paths: string[] = []
  for (const { path, link, sizeBytes, sha256 } of artifacts) {
    // What a result says has been in Redis, where others may write too.
    const problem = artifactPathProblem(path)
    if (problem !== undefined) throw new InvalidInputError(`artifacts: "${harmlessLine(path)}" is not fetched: ${problem}`)
    const target = join(resolve(folder), path)
    const arriving = `${target}.part`
    await mkdir(dirname(target), { recursive: true })
    const hash = createHash('sha256')
    let bytes = 0
    try {
      await pipeline(await opened(link), async function* (pieces: AsyncIterable<Buffer>) {
        for await (const piece of pieces) {
          bytes += piece.length
          if (bytes > sizeBytes) break
          hash.update(piece)
          yield piece
        }
      }, createWriteStream(arriving))
      if (bytes !== sizeBytes || hash.digest('hex') !== sha256) throw new SwitchyardError(`artifacts: what the store has as "${harmlessLine(path)}" is not what was stored; somebody changed it`)
      await rename(arriving, target)
    } catch (error) {
      await rm(arriving, { force: true })
      throw error
    }
    paths.push(target)
  }
  return paths
}

async function opened(link: string): Promise<Readable> {
  if (link.startsWith('file:')) return createReadStream(fileURLToPath(link))
  const answer = await fetch(link)
  if (!answer.ok || answer.body === null) throw new SwitchyardError(`artifacts: the store answered ${answer.status}; look at the key and the bucket`)
  return Readable.fromWeb(answer.body)
}
