import { createHash } from 'node:crypto'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { z } from 'zod'
import { errorMessage, InfrastructureError } from '../job/errors.js'
import { fetchFailure, sortHttpFailure } from './failures.js'
import type { GitAccess, GitCallOptions } from './host.js'

/** Git LFS's batch API with the basic transfer, as far as an upload needs it. */

export interface LfsUpload<Item extends { readonly oid: string; readonly size: number; readonly path: string }> {
  /** The full ref that will need the objects. */
  readonly ref: string
  readonly objects: readonly Item[]
  /** Why they could not be uploaded otherwise, for the error. */
  readonly because?: string | undefined
  /** Writes an object, in order and one piece at a time. */
  readonly read: (object: Item, write: (piece: Buffer) => Promise<void>) => Promise<void>
}

/** The host does not take objects: the work that needs them can't be saved as it is. */
export class LfsObjectsRefusedError extends InfrastructureError {
  constructor(
    source: string,
    readonly oids: readonly string[],
    message: string,
  ) {
    super({ kind: 'invalid', owner: 'git-repository', source, message })
  }
}

const action = z.object({ href: z.url({ protocol: /^https?$/ }), header: z.record(z.string(), z.string()).default({}) })
const answerSchema = z.object({
  objects: z.array(
    z.object({
      oid: z.string(),
      actions: z.object({ upload: action.optional(), verify: action.optional() }).optional(),
      error: z.object({ code: z.number(), message: z.string().default('') }).optional(),
    }),
  ),
})
type Action = z.output<typeof action>

/** How many objects one request names. */
const atOnce = 100
const mediaType = 'application/vnd.git-lfs+json'

/**
 * Uploads what the host does not have yet. An object is streamed, checked against its sha256, and never held.
 * @throws LfsObjectsRefusedError when the host takes no such objects, by its own word or by having no LFS.
 */
export async function uploadLfsObjects<Item extends { readonly oid: string; readonly size: number; readonly path: string }>(
  source: string,
  access: GitAccess,
  { ref, objects, because, read }: LfsUpload<Item>,
  options: GitCallOptions,
): Promise<void> {
  const byOid = new Map(objects.map((object) => [object.oid, object]))
  const refused = (items: readonly { readonly oid: string; readonly path: string }[], why: string) =>
    new LfsObjectsRefusedError(source, items.map(({ oid }) => oid), `${source}: the content of ${named(items)} is not taken as a Git LFS object (${why}${because === undefined ? '' : `; before that: ${because}`})`)
  const call = new LfsCalls(source, access, { ...options, deadlineMs: Date.now() + options.timeoutMs })
  const all = [...byOid.values()]
  for (let first = 0; first < all.length; first += atOnce) {
    const part = all.slice(first, first + atOnce)
    const asked = part.map(({ oid, size }) => ({ oid, size }))
    const answer = await call.batch({ operation: 'upload', transfers: ['basic'], ref: { name: ref }, objects: asked, hash_algo: 'sha256' }, (why) => refused(part, why))
    const denied = answer.objects.flatMap(({ oid, error }) => (error === undefined ? [] : [{ item: byOid.get(oid), why: error.message }]))
    const items = denied.flatMap(({ item }) => (item === undefined ? [] : [item]))
    if (items.length > 0) throw refused(items, denied[0]?.why ?? '')
    for (const { oid, actions } of answer.objects) {
      const item = byOid.get(oid)
      if (item === undefined || actions?.upload === undefined) continue
      await call.put(actions.upload, item, (write) => read(item, write), (why) => refused([item], why))
      if (actions.verify !== undefined) await call.verify(actions.verify, { oid, size: item.size }, (why) => refused([item], why))
    }
  }
}

/**
 * Which objects the host does not have, asked as for an upload, which changes nothing.
 * @returns none where the host has no LFS: then they are at another place, which a repository may name.
 */
export async function lackedLfsObjects<Item extends { readonly oid: string; readonly size: number; readonly path: string }>(
  source: string,
  access: GitAccess,
  { ref, objects }: Pick<LfsUpload<Item>, 'ref' | 'objects'>,
  options: GitCallOptions,
): Promise<Item[]> {
  const call = new LfsCalls(source, access, { ...options, deadlineMs: Date.now() + options.timeoutMs })
  const lacked: Item[] = []
  for (let first = 0; first < objects.length; first += atOnce) {
    const part = objects.slice(first, first + atOnce)
    const asked = part.map(({ oid, size }) => ({ oid, size }))
    const answer = await call.batch({ operation: 'upload', transfers: ['basic'], ref: { name: ref }, objects: asked, hash_algo: 'sha256' }, () => new NoLfsError()).catch((error: unknown) => {
      if (error instanceof NoLfsError) return null
      throw error
    })
    if (answer === null) return []
    const wanted = new Set(answer.objects.flatMap(({ oid, actions, error }) => (actions?.upload === undefined && error === undefined ? [] : [oid])))
    lacked.push(...part.filter(({ oid }) => wanted.has(oid)))
  }
  return lacked
}

class NoLfsError extends Error {}

/** The first files of some, for a sentence. */
export function named(items: readonly { readonly oid: string; readonly path: string }[]): string {
  const names = items.map(({ oid, path }) => (path === '' ? oid.slice(0, 12) : path))
  return names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ')
}

class LfsCalls {
  constructor(
    private readonly source: string,
    private readonly access: GitAccess,
    private readonly options: GitCallOptions & { readonly deadlineMs: number },
  ) {}

  get #base(): string {
    const { lfsUrl, url } = this.access
    return lfsUrl ?? `${url}${url.endsWith('.git') ? '' : '.git'}/info/lfs`
  }

  async batch(body: object, refused: (why: string) => Error): Promise<z.output<typeof answerSchema>> {
    const text = await this.#send('POST', { href: `${this.#base}/objects/batch`, header: {} }, { accept: mediaType, 'content-type': mediaType }, Buffer.from(JSON.stringify(body)), refused)
    try {
      return answerSchema.parse(JSON.parse(text))
    } catch (error) {
      throw new InfrastructureError({ kind: sortHttpFailure({ kind: 'unexpected-body' }).kind, source: this.source, message: `${this.source}: the answer about LFS objects is not one of Git LFS`, cause: error })
    }
  }

  async put(to: Action, { oid, size }: { oid: string; size: number }, read: (write: (piece: Buffer) => Promise<void>) => Promise<void>, refused: (why: string) => Error): Promise<void> {
    const hash = createHash('sha256')
    const content = async (write: (piece: Buffer) => Promise<void>) => {
      await read(async (piece) => {
        hash.update(piece)
        await write(piece)
      })
      if (hash.digest('hex') !== oid) throw refused('it is not what its name says')
    }
    await this.#send('PUT', to, { 'content-type': 'application/octet-stream', 'content-length': String(size) }, content, refused)
  }

  async verify(at: Action, body: object, refused: (why: string) => Error): Promise<void> {
    await this.#send('POST', at, { accept: mediaType, 'content-type': mediaType }, Buffer.from(JSON.stringify(body)), refused)
  }

  /** The host's own token goes to the host alone. */
  async #send(
    method: string,
    { href, header }: Action,
    headers: Readonly<Record<string, string>>,
    body: Buffer | ((write: (piece: Buffer) => Promise<void>) => Promise<void>),
    refused: (why: string) => Error,
  ): Promise<string> {
    const url = new URL(href)
    const own = url.origin === new URL(this.access.url).origin && !Object.keys(header).some((name) => name.toLowerCase() === 'authorization')
    const authorization = `Basic ${Buffer.from(`${this.access.username}:${this.access.token}`).toString('base64')}`
    const signal = AbortSignal.any([AbortSignal.timeout(Math.max(1, this.options.deadlineMs - Date.now())), ...(this.options.signal === undefined ? [] : [this.options.signal])])
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, { method, signal, headers: { ...headers, ...header, ...(own ? { authorization } : {}) } })
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve)
      request.once('error', reject)
    })
    // It is awaited below, also when the body's own failure comes first.
    answered.catch(() => undefined)
    const drained = (piece: Buffer) =>
      new Promise<void>((resolve, reject) => {
        request.write(piece, (error) => (error === null || error === undefined ? resolve() : reject(error)))
      })
    let text = ''
    let status = 0
    try {
      if (Buffer.isBuffer(body)) request.end(body)
      else {
        await body(drained)
        request.end()
      }
      const response = await answered
      status = response.statusCode ?? 0
      for await (const piece of response) if (text.length < 1024 * 1024) text += String(piece)
    } catch (error) {
      request.destroy()
      this.options.signal?.throwIfAborted()
      if (error instanceof InfrastructureError) throw error
      throw new InfrastructureError({ kind: sortHttpFailure(fetchFailure(error)).kind, source: this.source, message: `${this.source}: sending LFS objects failed: ${errorMessage(error)}`, cause: error })
    }
    if (status >= 200 && status < 300) return text
    const { kind } = sortHttpFailure({ kind: 'status', status })
    const said = `HTTP ${status}${/"message":"([^"]{1,200})"/.exec(text)?.[1]?.replace(/^/, ': ') ?? ''}`
    if (kind === 'invalid' || kind === 'auth') throw refused(said)
    throw new InfrastructureError({ kind, source: this.source, message: `${this.source}: sending LFS objects failed: ${said}` })
  }
}
