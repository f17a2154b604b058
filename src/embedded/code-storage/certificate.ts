import { createHash, createSign, createPrivateKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'

export interface OwnCertificate {
  /** PEM. */
  readonly key: string
  /** PEM; it vouches for itself. */
  readonly certificate: string
  /** Where the certificate, without the key, is. */
  readonly file: string
}

const dayMs = 86_400_000
const lifeMs = 365 * dayMs

/** The certificate of a data folder, made when there is none, when it ends within a month, or when it is not good for `host`. */
export async function ownCertificate(dataDir: string, host: string | undefined, now = Date.now()): Promise<OwnCertificate> {
  const folder = join(dataDir, 'tls')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const [keyFile, file] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')]
  const names = [...new Set(['localhost', '127.0.0.1', '::1', ...(host === undefined ? [] : [host])])]
  try {
    const [key, certificate] = await Promise.all([readFile(keyFile, 'utf8'), readFile(file, 'utf8')])
    const parsed = new X509Certificate(certificate)
    const named = names.every((name) => (isIP(name) === 0 ? parsed.checkHost(name) : parsed.checkIP(name)) !== undefined)
    if (named && parsed.checkPrivateKey(createPrivateKey(key)) && Date.parse(parsed.validTo) > now + 30 * dayMs) return { key, certificate, file }
  } catch (error) {
    // None yet, or what stands there is none: another one is made.
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (code !== 'ENOENT' && !code.startsWith('ERR_OSSL') && !code.startsWith('ERR_CRYPTO')) throw error
  }
  const made = makeCertificate(names, now)
  for (const [path, text] of [[keyFile, made.key], [file, made.certificate]] as const) {
    await writeFile(`${path}.new`, text, { mode: path === keyFile ? 0o600 : 0o644 })
    await rename(`${path}.new`, path)
  }
  return { ...made, file }
}

/** An X.509 certificate for `names` (RFC 5280), an EC key that signs itself. Node can read certificates, but makes none. */
export function makeCertificate(names: readonly string[], now: number): { key: string; certificate: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const keyInfo = publicKey.export({ type: 'spki', format: 'der' })
  const ecdsaWithSha256 = sequence(oid('2a8648ce3d040302'))
  const name = sequence(der(0x31, sequence(oid('550403'), der(0x0c, Buffer.from('Switchyard local Code Storage')))))
  const keyId = createHash('sha1').update(keyInfo).digest()
  const extension = (id: string, critical: boolean, value: Buffer) => sequence(oid(id), ...(critical ? [der(0x01, Buffer.from([0xff]))] : []), der(0x04, value))
  const extensions = sequence(
    // A certificate authority that only vouches for itself: some clients trust no other.
    extension('551d13', true, sequence(der(0x01, Buffer.from([0xff])), der(0x02, Buffer.from([0])))),
    // To sign, and to sign certificates.
    extension('551d0f', true, der(0x03, Buffer.from([0x02, 0x84]))),
    extension('551d25', false, sequence(oid('2b06010505070301'))),
    extension('551d0e', false, der(0x04, keyId)),
    extension('551d11', false, sequence(...names.map((text) => (isIP(text) === 0 ? der(0x82, Buffer.from(text)) : der(0x87, ipBytes(text)))))),
  )
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.concat([Buffer.from([0x4d]), randomBytes(15)])),
    ecdsaWithSha256,
    name,
    sequence(time(now - dayMs), time(now + lifeMs)),
    name,
    keyInfo,
    der(0xa3, extensions),
  )
  const signature = createSign('sha256').update(body).sign(privateKey)
  const certificate = sequence(body, ecdsaWithSha256, der(0x03, Buffer.concat([Buffer.from([0]), signature])))
  const lines = certificate.toString('base64').match(/.{1,64}/g) ?? []
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
  }
}

function der(tag: number, content: Buffer): Buffer {
  const size = content.length
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), content])
}

const sequence = (...parts: Buffer[]): Buffer => der(0x30, Buffer.concat(parts))
const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'))

/** Two digits of a year until 2049, four after. */
function time(ms: number): Buffer {
  const text = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '')
  return text < '2050' ? der(0x17, Buffer.from(text.slice(2))) : der(0x18, Buffer.from(text))
}

function ipBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number))
  const [head = '', tail = ''] = address.split('::')
  const groups = (text: string) => text.split(':').filter((group) => group !== '')
  const [front, back] = [groups(head), groups(tail)]
  const all = [...front, ...Array.from({ length: 8 - front.length - back.length }, () => '0'), ...back]
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex')
}
