import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setImmediate } from 'node:timers/promises'
import { getMimeType } from 'hono/utils/mime'
import type { ArtifactStore, StoredObject } from '../../artifacts/index.js'
import { addedUp, JUnitReader, maxReportBytes, maxReportsBytes } from '../../artifacts/junit.js'
import { nothingCollected, mostMissed, type Artifact, type Collected, type MissedArtifact, type TestSummary } from '../../job/artifacts.js'
import { escapedLine } from '../../job/harmless-text.js'
import { artifactPathProblem } from '../../job/artifact-patterns.js'
import { InfrastructureError, errorMessage } from '../../job/errors.js'

/** A file, as whoever holds it says. */
export interface FoundFile {
  readonly path: string
  readonly sizeBytes: number
}

/** What is kept in memory on its way; larger ones go through a file of this machine. */
const smallBytes = 256 * 1024
const storedAtOnce = 8
/** Of a report, how much is read before others have their turn. */
const turnBytes = 64 * 1024
/** A store that refuses so many in a row gets no more of this job. */
const mostRefusals = 3
const spoolPrefix = 'switchyard-artifacts-'

/** A store's time for a file: what a call takes, and a second for each MiB. */
const putTimeoutMs = (sizeBytes: number) => 30_000 + Math.ceil(sizeBytes / 1024 / 1024) * 1000

/**
 * One job's artifacts while they are collected: names are checked, sizes bounded, digests counted as the bytes go by, and JUnit reports
 * summed up. What can't be had is noted with why; only what breaks off the whole collection is thrown.
 */
export class Collection {
  readonly #stored = new Map<string, Artifact>()
  readonly #missed = new Map<string, MissedArtifact>()
  #missedMore = 0
  /** By path: one that is read again counts once. */
  readonly #reports = new Map<string, TestSummary>()
  #reportsBytes = 0
  readonly #pending = new Set<Promise<void>>()
  #refusals = 0
  #broken: { readonly reason: string; readonly owner: MissedArtifact['owner'] } | null = null
  /** What breaks off the whole collection. */
  #aborted: Error | undefined

  /**
   * @param parts.folder what their names in the store begin with.
   * @param parts.mask takes secrets out of what is told.
   * @param parts.confirmHeld asked before anything is written: what another consumer may be storing by now is not overwritten. What it throws ends the collection.
   */
  constructor(private readonly parts: { readonly store: ArtifactStore; readonly folder: string; readonly mask: (text: string) => string; readonly confirmHeld: () => Promise<void>; readonly signal: AbortSignal; readonly leftMs: () => number }) {}

  has(path: string): boolean {
    return this.#stored.has(path)
  }

  miss(path: string, reason: string, owner: MissedArtifact['owner']): void {
    const { mask } = this.parts
    const named = escapedLine(mask(path)).slice(0, 600)
    if (this.#missed.has(named)) return
    if (this.#missed.size >= mostMissed) this.#missedMore++
    else this.#missed.set(named, { path: named, reason: escapedLine(mask(reason)).slice(0, 1_000), owner })
  }

  /**
   * Which files are taken, by the limits: in the order of their names, so that every consumer takes the same. What was admitted before and
   * is not stored by now was not had, and counts no more.
   */
  admit(files: readonly FoundFile[]): FoundFile[] {
    const { maxFileBytes, maxJobBytes, maxFiles } = this.parts.store.limits
    let [admitted, admittedBytes] = [this.#stored.size, [...this.#stored.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)]
    const inOrder = files.filter(({ path }) => !this.has(path)).sort((one, other) => (one.path < other.path ? -1 : 1))
    return inOrder.filter(({ path, sizeBytes }) => {
      const problem =
        artifactPathProblem(path) ??
        (this.parts.mask(path) !== path
          ? 'its name holds a secret'
          : sizeBytes > maxFileBytes
            ? `it is ${sizeBytes} bytes, and no file over ${maxFileBytes} is stored (artifacts.maxFileMiB at the consumer)`
            : admittedBytes + sizeBytes > maxJobBytes
              ? `no more than ${maxJobBytes} bytes are stored of a job (artifacts.maxJobMiB at the consumer)`
              : admitted >= maxFiles
                ? `no more than ${maxFiles} files are stored of a job (artifacts.maxFiles at the consumer)`
                : undefined)
      if (problem !== undefined) {
        this.miss(path, problem, 'job')
        return false
      }
      admitted++
      admittedBytes += sizeBytes
      return true
    })
  }

  /**
   * Takes one file. Small ones go to the store while the next are read.
   * @throws what `pieces` throw, but for files that changed: those are noted.
   */
  async take(file: FoundFile, pieces: AsyncIterable<Buffer>, from: Artifact['from']): Promise<void> {
    this.#throwIfAborted()
    try {
      if (file.sizeBytes <= smallBytes) await this.#takeSmall(file, pieces, from)
      else await this.#takeLarge(file, pieces, from)
    } catch (error) {
      if (!(error instanceof InfrastructureError) || error.kind !== 'invalid' || error.owner !== 'job') throw error
      this.miss(file.path, error.message, 'job')
    }
  }

  /** Waits for what is under way. */
  async settle(): Promise<void> {
    await Promise.all(this.#pending)
    this.#throwIfAborted()
  }

  /** What there is so far. */
  get collected(): Collected {
    const artifacts = [...this.#stored.values()].sort((one, other) => (one.path < other.path ? -1 : 1))
    const artifactsMissed = [...this.#missed.values()].filter(({ path }) => !this.#stored.has(path))
    const tests = [...this.#reports].sort(([one], [other]) => (one < other ? -1 : 1)).reduce<TestSummary | null>((sum, [, report]) => addedUp(sum, report), null)
    return { ...nothingCollected, artifacts, artifactsMissed, artifactsMissedMore: this.#missedMore, tests }
  }

  async #takeSmall({ path, sizeBytes }: FoundFile, pieces: AsyncIterable<Buffer>, from: Artifact['from']): Promise<void> {
    const counted = this.#counting(path, sizeBytes)
    const parts: Buffer[] = []
    for await (const piece of pieces) {
      counted.add(piece)
      await setImmediate()
      parts.push(piece)
    }
    const bytes = Buffer.concat(parts)
    while (this.#pending.size >= storedAtOnce) await Promise.race(this.#pending)
    const put = this.#put({ path, from, ...counted.end(), content: { bytes } }).finally(() => this.#pending.delete(put))
    this.#pending.add(put)
  }

  async #takeLarge({ path, sizeBytes }: FoundFile, pieces: AsyncIterable<Buffer>, from: Artifact['from']): Promise<void> {
    const counted = this.#counting(path, sizeBytes)
    let folder: string | undefined
    try {
      folder = await mkdtemp(join(tmpdir(), spoolPrefix))
      const spool = join(folder, 'file')
      await pipeline(pieces, async function* (source: AsyncIterable<Buffer>) {
        for await (const piece of source) {
          for (let at = 0; at < piece.length; at += turnBytes) {
            counted.add(piece.subarray(at, at + turnBytes))
            // A report is read in between: other jobs go on.
            await setImmediate()
          }
          yield piece
        }
      }, createWriteStream(spool, { flags: 'wx', mode: 0o600 }))
      await this.#put({ path, from, ...counted.end(), content: { file: spool } })
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? ''
      if (!['ENOSPC', 'EDQUOT', 'EACCES', 'EROFS', 'ENOENT'].includes(code)) throw error
      this.miss(path, `the consumer’s folder for temporary files can’t be written to (${code}); give TMPDIR room and rights`, 'consumer-configuration')
    } finally {
      if (folder !== undefined) await rm(folder, { recursive: true, force: true })
    }
  }

  /** Counts bytes as they go by. */
  #counting(path: string, expected: number) {
    const hash = createHash('sha256')
    const isReport = path.toLowerCase().endsWith('.xml') && expected <= maxReportBytes && this.#reportsBytes + expected <= maxReportsBytes
    if (isReport) this.#reportsBytes += expected
    const report = isReport ? new JUnitReader() : null
    let sizeBytes = 0
    return {
      add: (piece: Buffer) => {
        sizeBytes += piece.length
        if (sizeBytes > expected) throw new Error(`more than ${expected} bytes were read of an artifact`)
        hash.update(piece)
        report?.add(piece)
      },
      end: () => {
        const { mask } = this.parts
        const summary = report?.end() ?? null
        const failing = summary?.failing.map((test) => ({ ...test, of: mask(test.of), name: mask(test.name), message: mask(test.message) })) ?? []
        if (summary !== null) this.#reports.set(path, { ...summary, failing })
        return { sizeBytes, sha256: hash.digest('hex') }
      },
    }
  }

  async #put({ path, from, ...object }: { readonly path: string; readonly from: Artifact['from'] } & Omit<StoredObject, 'key' | 'mediaType'>): Promise<void> {
    const { store, folder, confirmHeld, signal, leftMs } = this.parts
    if (this.#broken !== null) { this.miss(path, this.#broken.reason, this.#broken.owner); return; }
    try {
      await confirmHeld()
    } catch (error) {
      this.#aborted ??= error instanceof Error ? error : new Error(errorMessage(error))
      return
    }
    // Without a charset: what a job wrote may be in any.
    const mediaType = getMimeType(path)?.split(';')[0] ?? 'application/octet-stream'
    try {
      const where = await store.put({ key: `${folder}/${path}`, mediaType, ...object }, { timeoutMs: Math.max(1, Math.min(leftMs(), putTimeoutMs(object.sizeBytes))), signal })
      this.#refusals = 0
      const { sizeBytes, sha256 } = object
      this.#stored.set(path, { path, sizeBytes, mediaType, sha256, where, from })
    } catch (error) {
      if (signal.aborted) {
        this.#aborted ??= error instanceof Error ? error : new Error(errorMessage(error))
        return
      }
      const owner = (error instanceof InfrastructureError ? error.owner : undefined) ?? 'deployment'
      const reason = `it could not be stored: ${errorMessage(error)}`
      this.#refusals++
      if (this.#refusals >= mostRefusals || owner === 'consumer-keys') this.#broken = { reason, owner }
      this.miss(path, reason, owner)
    }
  }

  #throwIfAborted(): void {
    if (this.#aborted !== undefined) throw this.#aborted
    this.parts.signal.throwIfAborted()
  }
}
