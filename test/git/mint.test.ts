import { GitStorage } from '@pierre/storage'
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, exportJWK, importSPKI, jwtVerify } from 'jose'
import { describe, expect, it } from 'vitest'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { CodeStorageHost, TokenMinter, type TokenAlgorithm } from '../../src/git/index.js'
import { tokenVerifier } from '../../src/embedded/code-storage/verify.js'
import { InfrastructureError, InvalidInputError } from '../../src/job/errors.js'
import { ecPair, ed25519Pair, rsaPair, sec1Key } from './key-pairs.js'

const keys = generateDevelopmentKeys()
const pairs: Record<TokenAlgorithm, { privateKey: string; publicKey: string }> = {
  ES256: keys,
  RS256: rsaPair(),
  EdDSA: ed25519Pair(),
}

function withoutTimes(token: string) {
  const { iat, exp, ...claims } = decodeJwt(token)
  return { header: decodeProtectedHeader(token), claims, ttl: (exp ?? 0) - (iat ?? 0) }
}

describe('minted tokens', () => {
  it('are what the SDK mints, claim for claim', async () => {
    const sdk = new GitStorage({ name: 'acme', key: keys.privateKey })
    const repo = sdk.repo({ id: 'acme/web' })
    const host = new CodeStorageHost({ org: 'acme', privateKey: keys.privateKey })

    const read = await host.readAccess('acme/web', { ephemeral: false, ttlSeconds: 300 })
    const sdkRead = new URL(await repo.getRemoteURL({ permissions: ['git:read'], ttl: 300 }))
    expect(withoutTimes(read.token)).toEqual(withoutTimes(sdkRead.password))
    expect(`${read.url} ${read.username}`).toBe(`${sdkRead.origin}${sdkRead.pathname} ${sdkRead.username}`)

    const write = await host.writeAccess('acme/web', { branch: 'agent/j1' })
    const sdkWrite = new URL(
      await repo.getEphemeralRemoteURL({
        permissions: ['git:write'],
        ttl: 120,
        refPolicies: [{ pattern: 'refs/heads/agent/j1', ops: ['no-force-push'] }, { pattern: '*', ops: ['no-push'] }],
      }),
    )
    expect(withoutTimes(write.token)).toEqual(withoutTimes(sdkWrite.password))
    expect(write.url).toBe(`${sdkWrite.origin}${sdkWrite.pathname}`)
    expect(decodeJwt(write.token)['refs']).toEqual([['refs/heads/agent/j1', ['no-force-push']], ['*', ['no-push']]])
  })

  it('are made with the key that stands there now', async () => {
    let key = keys.privateKey
    const other = generateDevelopmentKeys()
    const minter = new TokenMinter({ org: 'acme', privateKey: () => key })
    const sign = async () => (await minter.mint({ repository: 'acme/web', scopes: ['git:read'] })).token
    await jwtVerify(await sign(), await importSPKI(keys.publicKey, 'ES256'))
    key = other.privateKey
    await jwtVerify(await sign(), await importSPKI(other.publicKey, 'ES256'))
    key = 'half a key'
    await expect(sign()).rejects.toMatchObject({ kind: 'auth', owner: 'consumer-keys', message: expect.stringContaining('PKCS#8') as string })
    key = keys.privateKey
    await jwtVerify(await sign(), await importSPKI(keys.publicKey, 'ES256'))
  })

  it('live 120 seconds unless told otherwise, by the given clock', async () => {
    const nowMs = 1_700_000_000_999
    const minter = new TokenMinter({ org: 'acme', privateKey: keys.privateKey, now: () => nowMs })
    const { token, expiresAtMs } = await minter.mint({ repository: 'acme/web', scopes: ['git:read'] })
    expect(decodeJwt(token)).toMatchObject({ iat: 1_700_000_000, exp: 1_700_000_120 })
    expect(expiresAtMs).toBe(1_700_000_120_000)
  })

  it.each([0, -5, 1.5, 86_401, Number.NaN, Number.POSITIVE_INFINITY])('refuse a time to live of %s seconds', async (ttlSeconds) => {
    const minter = new TokenMinter({ org: 'acme', privateKey: keys.privateKey })
    const error = await minter.mint({ repository: 'acme/web', scopes: ['git:read'], ttlSeconds }).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(InfrastructureError)
    expect(error).toMatchObject({ kind: 'invalid' })
  })

  it.each(['ES256', 'RS256', 'EdDSA'] as const)('are signed with %s keys and name the key', async (algorithm) => {
    const { privateKey, publicKey } = pairs[algorithm]
    const minter = new TokenMinter({ org: 'acme', privateKey, algorithm, kid: 'key-7' })
    const { token } = await minter.mint({ repository: 'acme/web', scopes: ['git:read'] })
    const jwk = { ...(await exportJWK(await importSPKI(publicKey, algorithm, { extractable: true }))), kid: 'key-7', alg: algorithm }
    const { protectedHeader } = await jwtVerify(token, createLocalJWKSet({ keys: [jwk] }), { issuer: 'acme' })
    expect(protectedHeader).toEqual({ alg: algorithm, typ: 'JWT', kid: 'key-7' })
  })

  it.each([
    ['lost', ''],
    ['blanks', ' '],
    ['written as \\n', '\\n'],
    ['those of Windows', '\r\n'],
  ])('can be made from a key whose line ends are %s', async (_name, end) => {
    for (const { algorithm, privateKey } of (['ES256', 'RS256', 'EdDSA'] as const).map((algorithm) => ({ algorithm, privateKey: pairs[algorithm].privateKey }))) {
      const minter = new TokenMinter({ org: 'acme', algorithm, privateKey: privateKey.trim().replaceAll('\n', end) })
      const { token } = await minter.mint({ repository: 'acme/web', scopes: ['git:read'] })
      // A local Code Storage is given its keys in the same ways.
      const verifier = tokenVerifier({ org: 'acme', publicKeys: [pairs[algorithm].publicKey.trim().replaceAll('\n', end)], now: Date.now })
      await expect(verifier.verify(token)).resolves.toMatchObject({ repo: 'acme/web' })
    }
  })

  const body = keys.privateKey.split('\n')[1] ?? ''
  it.each([
    ['empty', '', 'ES256'],
    ['not a key', 'hunter2-very-secret', 'ES256'],
    ['broken', `-----BEGIN PRIVATE KEY-----\n${body}\n-----END PRIVATE KEY-----`, 'ES256'],
    ['public', keys.publicKey, 'ES256'],
    ['of another algorithm', keys.privateKey, 'RS256'],
    ['on another curve', ecPair('P-384').privateKey, 'ES256'],
    ['too short', rsaPair(1024).privateKey, 'RS256'],
    ['in the old form', sec1Key(), 'ES256'],
  ] as const)('a key that is %s is refused at once, without showing it', (_what, privateKey, algorithm) => {
    let thrown: unknown
    try {
      new TokenMinter({ org: 'acme', privateKey, algorithm })
    } catch (error) {
      thrown = error
    }
    expect(thrown).toBeInstanceOf(InvalidInputError)
    expect((thrown as Error).message).toContain('privateKey')
    for (const line of privateKey.split('\n').filter((text) => text.length > 8 && !text.startsWith('-----'))) {
      expect(JSON.stringify([(thrown as Error).message, String((thrown as Error).cause), (thrown as Error).stack])).not.toContain(line)
    }
  })
})
