import { generateKeyPairSync } from 'node:crypto'

export interface DevelopmentKeys {
  /** PKCS#8 PEM. */
  readonly privateKey: string
  /** SPKI PEM. */
  readonly publicKey: string
}

/** Makes a new ES256 key pair for a local Code Storage and those who mint its tokens. */
export function generateDevelopmentKeys(): DevelopmentKeys {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  })
}
