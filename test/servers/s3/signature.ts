import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/** Signature version 4, as Amazon publishes it for S3: by headers, and by the query of a presigned URL. */

export interface Key {
  readonly accessKeyId: string
  readonly secretAccessKey: string
}

const sha256 = (data: string) => createHash('sha256').update(data).digest('hex')
const hmac = (key: Buffer | string, data: string) => createHmac('sha256', key).update(data).digest()

/** RFC 3986, as the canonical request wants it. */
function encoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** @returns S3's error code, or undefined when the request is signed with the key. */
export function signatureProblem(request: IncomingMessage, key: Key, region: string, nowMs: number): string | undefined {
  const url = new URL(request.url ?? '/', 'http://s3')
  const presigned = url.searchParams.has('X-Amz-Signature')
  const parts = presigned
    ? { credential: url.searchParams.get('X-Amz-Credential') ?? '', signed: url.searchParams.get('X-Amz-SignedHeaders') ?? '', signature: url.searchParams.get('X-Amz-Signature') ?? '', date: url.searchParams.get('X-Amz-Date') ?? '' }
    : headerParts(request)
  if (parts === undefined) return 'AccessDenied'
  const [id, day = '', where = '', service, end] = parts.credential.split('/')
  if (id !== key.accessKeyId) return 'InvalidAccessKeyId'
  if (where !== region || service !== 's3' || end !== 'aws4_request' || !parts.date.startsWith(day)) return 'AuthorizationHeaderMalformed'
  const signedAtMs = Date.parse(parts.date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'))
  if (!(Math.abs(nowMs - signedAtMs) < 15 * 60_000 || (presigned && signedAtMs <= nowMs))) return 'RequestTimeTooSkewed'
  if (presigned && nowMs > signedAtMs + Number(url.searchParams.get('X-Amz-Expires')) * 1000) return 'AccessDenied'
  const headers = parts.signed.split(';')
  if (!headers.includes('host')) return 'SignatureDoesNotMatch'
  const query = [...url.searchParams].filter(([name]) => name !== 'X-Amz-Signature').map(([name, value]) => `${encoded(name)}=${encoded(value)}`).sort()
  const canonical = [
    request.method,
    // The path as it was sent: S3 encodes it once.
    (request.url ?? '/').split('?')[0],
    query.join('&'),
    ...headers.map((name) => `${name}:${String(request.headers[name] ?? '').trim().replace(/\s+/g, ' ')}`),
    '',
    parts.signed,
    presigned ? 'UNSIGNED-PAYLOAD' : String(request.headers['x-amz-content-sha256'] ?? ''),
  ].join('\n')
  const scope = `${day}/${region}/s3/aws4_request`
  const signingKey = ['s3', 'aws4_request'].reduce((made: Buffer, part) => hmac(made, part), hmac(hmac(`AWS4${key.secretAccessKey}`, day), region))
  const expected = Buffer.from(hmac(signingKey, ['AWS4-HMAC-SHA256', parts.date, scope, sha256(canonical)].join('\n')).toString('hex'))
  const given = Buffer.from(parts.signature)
  return expected.length === given.length && timingSafeEqual(expected, given) ? undefined : 'SignatureDoesNotMatch'
}

function headerParts(request: IncomingMessage) {
  const [, credential = '', signed = '', signature = ''] = /^AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(request.headers.authorization ?? '') ?? []
  return credential === '' ? undefined : { credential, signed, signature, date: String(request.headers['x-amz-date'] ?? '') }
}
