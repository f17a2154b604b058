import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { signatureProblem, type Key } from './signature.js'

/**
 * A server that speaks S3's protocol, as far as objects are put, read and looked for: it checks every signature (of headers and of presigned
 * URLs), the digest that a request was signed with, lengths and names, and answers errors as S3 does. Objects are in memory.
 */
export interface S3Server {
  readonly url: string
  readonly bucket: string
  readonly region: string
  readonly key: Key
  /** By key. */
  readonly objects: ReadonlyMap<string, S3Object>
  /** How often each key was put. */
  readonly puts: ReadonlyMap<string, number>
  /** The most requests that were under way at once. */
  readonly mostAtOnce: number
  /** Asked for each request: answers an error, or `hang`, in place of what is right. */
  fault: ((request: { readonly method: string; readonly key: string }) => { readonly status: number; readonly code: string } | 'hang' | 'drop' | undefined) | undefined
  /** Milliseconds since 1970, by which links run out. */
  now: () => number
  close(): Promise<void>
}

export interface S3Object {
  readonly bytes: Buffer
  readonly contentType: string
  readonly metadata: Readonly<Record<string, string>>
}

const statuses: Readonly<Record<string, number>> = { NoSuchBucket: 404, NoSuchKey: 404, AuthorizationHeaderMalformed: 400, XAmzContentSHA256Mismatch: 400, KeyTooLongError: 400, MissingContentLength: 411, MethodNotAllowed: 405 }
const longestKeyBytes = 1024

export async function startS3Server(): Promise<S3Server> {
  const [bucket, region] = ['artifacts', 'eu-north-1']
  const key: Key = { accessKeyId: 'AKIATESTTESTTESTTEST', secretAccessKey: 'test+secret/of+nobody' }
  const objects = new Map<string, S3Object>()
  const puts = new Map<string, number>()
  let [underWay, mostAtOnce] = [0, 0]

  const refuse = (response: ServerResponse, code: string, status = statuses[code] ?? 403) => {
    response.writeHead(status, { 'content-type': 'application/xml', 'x-amz-request-id': 'TEST' })
    response.end(`<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${code}</Message><RequestId>TEST</RequestId></Error>`)
  }

  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '/', 'http://s3')
    const [, named = '', ...rest] = (request.url ?? '/').split('?')[0]!.split('/')
    const objectKey = rest.map(decodeURIComponent).join('/')
    const fault = server.fault?.({ method: request.method ?? '', key: objectKey })
    if (fault === 'hang') return
    if (fault === 'drop') {
      request.socket.destroy()
      return
    }
    if (fault !== undefined) {
      request.resume()
      refuse(response, fault.code, fault.status); return;
    }
    const problem = signatureProblem(request, key, region, server.now())
    if (problem !== undefined) { refuse(response, problem); return; }
    if (named !== bucket) { refuse(response, 'NoSuchBucket'); return; }
    if (request.method === 'HEAD' && objectKey === '') {
      response.writeHead(200, { 'x-amz-bucket-region': region })
      response.end()
      return
    }
    if (request.method === 'PUT') {
      if (Buffer.byteLength(objectKey) > longestKeyBytes) { refuse(response, 'KeyTooLongError'); return; }
      if (request.headers['content-length'] === undefined) { refuse(response, 'MissingContentLength'); return; }
      const parts: Buffer[] = []
      for await (const part of request) parts.push(part as Buffer)
      const bytes = Buffer.concat(parts)
      if (createHash('sha256').update(bytes).digest('hex') !== request.headers['x-amz-content-sha256']) { refuse(response, 'XAmzContentSHA256Mismatch'); return; }
      const metadata = Object.fromEntries(Object.entries(request.headers).flatMap(([name, value]) => (name.startsWith('x-amz-meta-') ? [[name.slice('x-amz-meta-'.length), String(value)]] : [])))
      objects.set(objectKey, { bytes, contentType: request.headers['content-type'] ?? '', metadata })
      puts.set(objectKey, (puts.get(objectKey) ?? 0) + 1)
      response.writeHead(200, { etag: `"${createHash('md5').update(bytes).digest('hex')}"` })
      response.end()
      return
    }
    const object = objects.get(objectKey)
    if (request.method !== 'GET' && request.method !== 'HEAD') { refuse(response, 'MethodNotAllowed'); return; }
    if (object === undefined) { refuse(response, 'NoSuchKey'); return; }
    const disposition = url.searchParams.get('response-content-disposition')
    response.writeHead(200, { 'content-type': object.contentType, 'content-length': object.bytes.length, ...(disposition === null ? {} : { 'content-disposition': disposition }) })
    response.end(request.method === 'HEAD' ? undefined : object.bytes)
  }

  const http = createServer((request, response) => {
    underWay++
    mostAtOnce = Math.max(mostAtOnce, underWay)
    response.on('close', () => underWay--)
    void answer(request, response).catch(() => request.socket.destroy())
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const server: S3Server = {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    bucket,
    region,
    key,
    objects,
    puts,
    get mostAtOnce() {
      return mostAtOnce
    },
    fault: undefined,
    now: Date.now,
    close: async () => {
      http.closeAllConnections()
      http.close()
      await once(http, 'close')
    },
  }
  return server
}
