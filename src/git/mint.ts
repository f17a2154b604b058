import { createPrivateKey, type KeyObject } from 'node:crypto'
import { SignJWT } from 'jose'
import { InfrastructureError, InvalidInputError, errorMessage } from '../job/errors.js'
import { readablePem } from './pem.js'

export const tokenAlgorithms = ['ES256', 'RS256', 'EdDSA'] as const
export type TokenAlgorithm = (typeof tokenAlgorithms)[number]

/**
 * What a Code Storage token allows: `git:read` to fetch and read, `git:write` to push and write as well, `repo:write` to
 * create and delete a repository, `org:read` to list repositories.
 */
export type TokenScope = 'git:read' | 'git:write' | 'repo:write' | 'org:read'

/** A rule for refs and what it forbids. Rules are ordered and the first whose pattern matches decides. */
export type RefPolicy = readonly [pattern: string, operations: readonly ('no-push' | 'no-force-push' | 'verify-sig')[]]

/** How long a token is good for when nobody says otherwise, in seconds. */
export const defaultTokenTtlSeconds = 120
/** The longest life of a token, in seconds: a day. Nothing that Switchyard does takes longer. */
const maxTokenTtlSeconds = 86_400

export interface MintRequest {
  readonly repository: string
  readonly scopes: readonly TokenScope[]
  /** Whole seconds, 1 to 86400. Default 120. */
  readonly ttlSeconds?: number | undefined
  readonly refs?: readonly RefPolicy[] | undefined
}

export interface MintedToken {
  readonly token: string
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number
}

export interface TokenMinterOptions {
  /** The organisation, which is the token's issuer. */
  readonly org: string
  /** The private key as PKCS#8 PEM; or where it is read anew for each token, so that it can be changed meanwhile. */
  readonly privateKey: string | (() => string)
  /** Default `ES256`, the only one that Code Storage's own SDK signs with. */
  readonly algorithm?: TokenAlgorithm | undefined
  /** Names the key when the organisation has more than one. */
  readonly kid?: string | undefined
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: (() => number) | undefined
}

/** Mints Code Storage's tokens, with the claims that its SDK makes. A key is parsed when it is another one than before. */
export class TokenMinter {
  readonly #org: string
  readonly #read: () => string
  #text: string
  #key: KeyObject
  readonly #algorithm: TokenAlgorithm
  readonly #kid: string | undefined
  readonly #now: () => number

  /** @throws InvalidInputError when the key can't be read or does not fit the algorithm. It never shows the key. */
  constructor(options: TokenMinterOptions) {
    this.#org = options.org
    this.#algorithm = options.algorithm ?? 'ES256'
    const { privateKey } = options
    this.#read = typeof privateKey === 'string' ? () => privateKey : privateKey
    this.#text = this.#read()
    this.#key = parsePrivateKey(this.#text, this.#algorithm)
    this.#kid = options.kid
    this.#now = options.now ?? Date.now
  }

  /** @throws InfrastructureError `invalid` when the time to live is not whole seconds between 1 and 86400. */
  async mint(request: MintRequest): Promise<MintedToken> {
    const ttlSeconds = request.ttlSeconds ?? defaultTokenTtlSeconds
    if (!Number.isInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > maxTokenTtlSeconds) {
      throw new InfrastructureError({
        kind: 'invalid',
        owner: 'deployment',
        source: this.#org,
        message: `ttlSeconds: ${ttlSeconds} is not a time to live for a token; give whole seconds from 1 to ${maxTokenTtlSeconds}`,
      })
    }
    const issuedAt = Math.floor(this.#now() / 1000)
    const expiresAt = issuedAt + ttlSeconds
    const refs = request.refs ?? []
    const token = await new SignJWT({
      iss: this.#org,
      sub: '@pierre/storage',
      repo: request.repository,
      scopes: [...request.scopes],
      iat: issuedAt,
      exp: expiresAt,
      ...(refs.length > 0 ? { refs } : {}),
    })
      .setProtectedHeader({ alg: this.#algorithm, typ: 'JWT', ...(this.#kid === undefined ? {} : { kid: this.#kid }) })
      .sign(this.#currentKey())
    return { token, expiresAtMs: expiresAt * 1000 }
  }

  /** @throws InfrastructureError `auth` when the key that stands there now can't be read. */
  #currentKey(): KeyObject {
    try {
      const text = this.#read()
      if (text !== this.#text) {
        this.#key = parsePrivateKey(text, this.#algorithm)
        this.#text = text
      }
      return this.#key
    } catch (error) {
      throw new InfrastructureError({ kind: 'auth', owner: 'consumer-keys', source: this.#org, message: errorMessage(error) })
    }
  }
}

/**
 * The rules that let a token push to one branch, fast-forward only, and to nothing else.
 * @param verified only commits whose signatures the host knows.
 */
export function onlyBranch(branch: string, verified = false): readonly RefPolicy[] {
  return [
    [`refs/heads/${branch}`, verified ? ['no-force-push', 'verify-sig'] : ['no-force-push']],
    ['*', ['no-push']],
  ]
}

/** The rules that let a token push to one ref, fast-forward only, and to nothing else. */
export function onlyRef(ref: string): readonly RefPolicy[] {
  return [
    [ref, ['no-force-push']],
    ['*', ['no-push']],
  ]
}

/** The rules that let a token move one branch anywhere, or delete it, and touch nothing else. */
export function onlyBranchAnywhere(branch: string): readonly RefPolicy[] {
  return [
    [`refs/heads/${branch}`, []],
    ['*', ['no-push']],
  ]
}

const keyKinds: Record<TokenAlgorithm, { fits: (key: KeyObject) => boolean; name: string }> = {
  ES256: {
    fits: (key) => key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1',
    name: 'an EC key on the curve P-256',
  },
  RS256: {
    fits: (key) => key.asymmetricKeyType === 'rsa' && (key.asymmetricKeyDetails?.modulusLength ?? 0) >= 2048,
    name: 'an RSA key of at least 2048 bits',
  },
  EdDSA: { fits: (key) => key.asymmetricKeyType === 'ed25519', name: 'an Ed25519 key' },
}

function parsePrivateKey(pem: string, algorithm: TokenAlgorithm): KeyObject {
  const text = readablePem(pem)
  let key: KeyObject
  try {
    if (!text.includes('-----BEGIN PRIVATE KEY-----')) throw new TypeError('not PKCS#8')
    key = createPrivateKey({ key: text.trim(), format: 'pem', type: 'pkcs8' })
  } catch {
    // The parser's own error is left out on purpose: it may quote what it read.
    throw new InvalidInputError(
      'privateKey: is not a private key in PKCS#8 PEM form; give the text from "-----BEGIN PRIVATE KEY-----" on (openssl pkcs8 -topk8 -nocrypt converts others)',
    )
  }
  const kind = keyKinds[algorithm]
  if (!kind.fits(key)) {
    throw new InvalidInputError(`privateKey: does not fit the algorithm ${algorithm}, which needs ${kind.name}; set algorithm to what the key is`)
  }
  return key
}
