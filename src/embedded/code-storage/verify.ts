import { createPublicKey, type KeyObject } from 'node:crypto'
import { decodeProtectedHeader, errors, jwtVerify } from 'jose'
import { z } from 'zod'
import { readablePem } from '../../git/pem.js'
import { InvalidInputError } from '../../job/errors.js'
import { policyClaimsSchema } from './policy.js'

const claimsSchema = z.object({
  iss: z.string(),
  // Left out of a token for the whole organisation, which lists repositories.
  repo: z.string().min(1).optional(),
  scopes: z.array(z.string()),
  exp: z.number(),
}).extend(policyClaimsSchema.shape)
export type TokenClaims = z.output<typeof claimsSchema>

/** Answers 401 with `message`, which never holds the token. */
export class TokenRefusedError extends Error {
  override readonly name = 'TokenRefusedError'
}

export interface TokenVerifier {
  /** @throws TokenRefusedError when the token is malformed, expired, of another issuer or not signed with a known key. */
  verify(token: string): Promise<TokenClaims>
}

/**
 * @param publicKeys PEM texts; EC P-256 keys verify ES256, RSA keys RS256, Ed25519 keys EdDSA.
 * @throws InvalidInputError when a key can't be read.
 */
export function tokenVerifier(options: { org: string; publicKeys: readonly string[]; now: () => number }): TokenVerifier {
  const keys = options.publicKeys.map((pem, index) => parsePublicKey(pem, index))
  return {
    async verify(token) {
      const algorithm = algorithmOf(token)
      const candidates = keys.filter((key) => key.algorithm === algorithm)
      for (const candidate of candidates) {
        try {
          const { payload } = await jwtVerify(token, candidate.key, {
            algorithms: [candidate.algorithm],
            issuer: options.org,
            requiredClaims: ['exp', 'iat'],
            currentDate: new Date(options.now()),
          })
          const claims = claimsSchema.safeParse(payload)
          if (!claims.success) throw new TokenRefusedError('the token’s claims are not those of Code Storage (iss, repo, scopes, refs, exp)')
          return claims.data
        } catch (error) {
          if (error instanceof errors.JWSSignatureVerificationFailed) continue
          throw refused(error)
        }
      }
      throw new TokenRefusedError('the token is not signed with a key of this organisation')
    },
  }
}

function algorithmOf(token: string): string | undefined {
  try {
    return decodeProtectedHeader(token).alg
  } catch (error) {
    throw refused(error)
  }
}

function refused(error: unknown): unknown {
  if (error instanceof errors.JWTExpired) return new TokenRefusedError('the token has expired')
  if (error instanceof errors.JWTClaimValidationFailed) return new TokenRefusedError(`the token’s claim "${error.claim}" is missing or wrong`)
  if (error instanceof errors.JOSEError || error instanceof TypeError) return new TokenRefusedError('the token is malformed')
  return error
}

const algorithms = new Map([
  ['ec', 'ES256'],
  ['rsa', 'RS256'],
  ['ed25519', 'EdDSA'],
])

function parsePublicKey(pem: string, index: number): { key: KeyObject; algorithm: string } {
  let key: KeyObject
  try {
    key = createPublicKey(readablePem(pem))
  } catch {
    throw new InvalidInputError(`publicKeys[${index}]: is not a key in PEM form`)
  }
  const algorithm = algorithms.get(key.asymmetricKeyType ?? '')
  if (algorithm === undefined) throw new InvalidInputError(`publicKeys[${index}]: is not an EC P-256, RSA or Ed25519 key`)
  return { key, algorithm }
}
