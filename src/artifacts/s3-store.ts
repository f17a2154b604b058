import { createReadStream } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type * as Sdk from '@aws-sdk/client-s3'
import { InfrastructureError, InvalidInputError, type InfrastructureErrorFields } from '../job/errors.js'
import { loadOptionalPackage } from '../providers/optional-package.js'
import type { ArtifactLimits, ArtifactStore, StoreCallOptions, StoredObject } from './store.js'

export interface S3Options {
  readonly bucket: string
  /** Stands before every key; empty, or ends with `/`. */
  readonly prefix: string
  readonly region: string
  /** Of another S3 than Amazon's. */
  readonly endpoint?: string | undefined
  /** Whether the bucket stands in the path and not in the host's name. */
  readonly forcePathStyle: boolean
  /** Asked before each request; undefined: found as all of Amazon's tools find them. */
  readonly credentials?: (() => { readonly accessKeyId: string; readonly secretAccessKey: string; readonly sessionToken?: string }) | undefined
}

const mostTries = 4

/** Amazon's S3, or any other that speaks its protocol. The SDK is loaded with the first call. */
export class S3Store implements ArtifactStore {
  readonly name: string
  #loaded: Promise<Loaded> | undefined

  constructor(
    private readonly options: S3Options,
    readonly limits: ArtifactLimits,
  ) {
    this.name = `s3://${options.bucket}`
  }

  async put({ key, sizeBytes, mediaType, sha256, content }: StoredObject, options: StoreCallOptions): Promise<string> {
    const { sdk, client } = await this.#load()
    const { bucket, prefix } = this.options
    await this.#send(options, async (request) => {
      const command = new sdk.PutObjectCommand({
        Bucket: bucket,
        Key: `${prefix}${key}`,
        Body: 'bytes' in content ? content.bytes : createReadStream(content.file),
        ContentLength: sizeBytes,
        ContentType: mediaType,
        Metadata: { sha256 },
      })
      // It signs these very bytes, and the store refuses others.
      command.middlewareStack.add(
        (next) => async (args) => {
          ;(args.request as { headers: Record<string, string> }).headers['x-amz-content-sha256'] = sha256
          return next(args)
        },
        { step: 'build', name: 'knownDigest' },
      )
      await client.send(command, request)
    })
    return `s3://${bucket}/${prefix}${key}`
  }

  async link(where: string, { expiresInSeconds }: { readonly expiresInSeconds: number }): Promise<string> {
    const { bucket, prefix } = this.options
    const start = `s3://${bucket}/${prefix}`
    if (!where.startsWith(start)) throw new InvalidInputError(`artifacts: ${where} is not in ${start}; configure the store that the consumers have`)
    const { sdk, client } = await this.#load()
    const { getSignedUrl } = await loadOptionalPackage(this.name, '@aws-sdk/s3-request-presigner', presignerVersion, () => import('@aws-sdk/s3-request-presigner'), otherwise)
    // What a job made is saved, not shown: a page of its own in the store's name could do what the store's pages can.
    const command = new sdk.GetObjectCommand({ Bucket: bucket, Key: where.slice(`s3://${bucket}/`.length), ResponseContentDisposition: 'attachment' })
    try {
      return await getSignedUrl(client, command, { expiresIn: expiresInSeconds })
    } catch (error) {
      throw this.#sorted(error)
    }
  }

  async check(options: StoreCallOptions): Promise<readonly string[]> {
    const { sdk, client } = await this.#load()
    try {
      await this.#send(options, (request) => client.send(new sdk.HeadBucketCommand({ Bucket: this.options.bucket }), request))
      return []
    } catch (error) {
      // Who may write need not be allowed to list.
      if (error instanceof InfrastructureError && error.kind === 'auth' && statusOf(error.cause) === 403) return [`artifacts: ${this.name}: whether it can be written to could not be checked: the key may not look at the bucket`]
      throw error
    }
  }

  close(): void {
    void this.#loaded?.then(({ client }) => client.destroy(), () => undefined)
  }

  async #send(options: StoreCallOptions, attempt: (request: { abortSignal: AbortSignal }) => Promise<unknown>): Promise<void> {
    const time = AbortSignal.timeout(options.timeoutMs)
    const abortSignal = options.signal === undefined ? time : AbortSignal.any([options.signal, time])
    for (let tries = 1; ; tries++) {
      options.signal?.throwIfAborted()
      try {
        await attempt({ abortSignal })
        return
      } catch (error) {
        options.signal?.throwIfAborted()
        const sorted = this.#sorted(error)
        if (sorted.kind !== 'transient' || tries === mostTries || time.aborted) throw sorted
        await delay(200 * 2 ** (tries - 1), undefined, { signal: abortSignal }).catch(() => {
          options.signal?.throwIfAborted()
          throw sorted
        })
      }
    }
  }

  async #load(): Promise<Loaded> {
    this.#loaded ??= this.#open()
    try {
      return await this.#loaded
    } catch (error) {
      this.#loaded = undefined
      throw error
    }
  }

  async #open(): Promise<Loaded> {
    const sdk = await loadOptionalPackage(this.name, '@aws-sdk/client-s3', clientVersion, () => import('@aws-sdk/client-s3'), otherwise)
    const { region, endpoint, forcePathStyle, credentials } = this.options
    const client = new sdk.S3Client({
      region,
      forcePathStyle,
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(credentials === undefined ? {} : { credentials: () => Promise.resolve({ ...credentials(), expiration: new Date() }) }),
      // Tried again above, with a stream of its own each time.
      maxAttempts: 1,
      // It would print to the console; what matters is thrown.
      logger: silent,
      // The digest is signed anyway, and not every S3 knows the others.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    })
    return { sdk, client }
  }

  /** The one place where the SDK's errors are sorted. Of what they say only the code is told: the rest may hold anything. */
  #sorted(error: unknown): InfrastructureError {
    if (error instanceof InfrastructureError) return error
    const status = statusOf(error)
    const name = error instanceof Error && /^[A-Za-z][\w.]{0,60}$/.test(error.name) && error.name !== 'Error' ? error.name : ((error as NodeJS.ErrnoException).code ?? 'unknown error')
    const said = status === undefined ? name : `${name}, ${status}`
    const made = (fields: Pick<InfrastructureErrorFields, 'kind' | 'owner'>, problem: string) => new InfrastructureError({ ...fields, source: this.name, message: `artifacts: ${this.name}: ${problem}`, cause: error })
    if (/Credential|AccessKey|Signature|Token|AccessDenied/i.test(name) || status === 401 || status === 403) {
      return made({ kind: 'auth', owner: 'consumer-keys' }, `it refuses the consumer's key, or there is none (${said}); give the consumer a key that may write there`)
    }
    if (status === 404 || status === 301) return made({ kind: 'invalid', owner: 'consumer-configuration' }, `there is no such bucket there (${said}); mend artifacts.s3.bucket, region or endpoint`)
    if (status !== undefined && status >= 400 && status < 500 && ![408, 409, 425, 429].includes(status)) return made({ kind: 'invalid', owner: 'consumer-configuration' }, `it refuses the request (${said}); mend artifacts.s3`)
    return made({ kind: 'transient', owner: 'deployment' }, `it does not answer as it should (${said}); it is tried again for a while`)
  }
}

const silent = { trace: () => undefined, debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

interface Loaded {
  readonly sdk: typeof Sdk
  readonly client: Sdk.S3Client
}

const clientVersion = '3.1175'
const presignerVersion = '3.1169'
const otherwise = 'store artifacts in a folder'

function statusOf(error: unknown): number | undefined {
  const metadata = (error as { readonly $metadata?: { readonly httpStatusCode?: unknown } } | null)?.$metadata
  return typeof metadata?.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined
}
