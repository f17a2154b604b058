import { generateKeyPairSync, type KeyObject } from 'node:crypto'

export interface PemPair {
  readonly privateKey: string
  readonly publicKey: string
}

function toPem({ privateKey, publicKey }: { privateKey: KeyObject; publicKey: KeyObject }): PemPair {
  return {
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  }
}

export const rsaPair = (modulusLength = 2048) => toPem(generateKeyPairSync('rsa', { modulusLength }))
export const ed25519Pair = () => toPem(generateKeyPairSync('ed25519'))
export const x25519Pair = () => toPem(generateKeyPairSync('x25519'))
export const ecPair = (namedCurve: string) => toPem(generateKeyPairSync('ec', { namedCurve }))
/** An EC private key in the form that openssl wrote before PKCS#8. */
export const sec1Key = () =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'sec1', format: 'pem' }).toString()
