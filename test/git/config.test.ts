import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { CodeStorageHost, codeStorageConfigSchema, gitHostFromConfig, HttpsGitHost, httpsGitConfigSchema } from '../../src/git/index.js'
import { InvalidInputError } from '../../src/job/errors.js'
import { parseInput } from '../../src/job/explain.js'

const { privateKey } = generateDevelopmentKeys()
const codeStorage = (input: unknown) => parseInput(codeStorageConfigSchema, input, 'git')
const https = (input: unknown) => parseInput(httpsGitConfigSchema, input, 'git')

describe('the configuration of Code Storage', () => {
  it('finds the key in PIERRE_PRIVATE_KEY, in a variable of another name or in a file, and never holds it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-key-'))
    const file = join(folder, 'key.pem')
    await writeFile(file, privateKey)
    for (const [input, env] of [
      [{ org: 'acme' }, { PIERRE_PRIVATE_KEY: privateKey }],
      [{ org: 'acme', privateKeyEnv: 'MY_KEY' }, { MY_KEY: privateKey }],
      [{ org: 'acme', privateKeyFile: file, kid: 'k1', storageUrl: 'http://127.0.0.1:1' }, {}],
    ] as const) {
      const config = codeStorage(input)
      expect(JSON.stringify(config)).not.toContain('PRIVATE KEY-----')
      const host = gitHostFromConfig(config, env)
      expect(host).toBeInstanceOf(CodeStorageHost)
      const { token } = await host.readAccess('acme/web', { ephemeral: false })
      expect(token.split('.')).toHaveLength(3)
    }
    expect(gitHostFromConfig(codeStorage({ org: 'acme' }), { PIERRE_PRIVATE_KEY: privateKey }).hosts).toEqual(['acme.code.storage'])
    await rm(folder, { recursive: true, maxRetries: 10 })
  })

  it('finds the signing key in a file or a variable, and never holds it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'switchyard-config-'))
    await writeFile(join(folder, 'signing'), 'hunter2')
    for (const [signing, env] of [
      [{ keyFile: join(folder, 'signing') }, {}],
      [{ keyEnv: 'SIGNING_KEY', format: 'openpgp', mode: 'rewrite', verifyAtTarget: true, provenance: true, committer: { name: 'S', email: 's@x.y' } }, { SIGNING_KEY: 'hunter2' }],
    ] as const) {
      const config = codeStorage({ org: 'acme', signing })
      expect(JSON.stringify(config)).not.toContain('hunter2')
      const made = gitHostFromConfig(config, { PIERRE_PRIVATE_KEY: privateKey, ...env })
      expect(made.signing).toMatchObject({ format: 'ssh', mode: 'add', verifyAtTarget: false, provenance: false, ...('format' in signing ? { format: 'openpgp', mode: 'rewrite', verifyAtTarget: true, provenance: true } : {}) })
      expect(made.signing?.key()).toBe('hunter2')
      expect(gitHostFromConfig(https({ url: 'https://git.example.com', tokenEnv: 'T', signing }), { T: 'x', ...env }).signing?.key()).toBe('hunter2')
    }
    await rm(folder, { recursive: true, maxRetries: 10 })
  })

  it.each([
    [{ org: 'acme', apiPaths: 'v2' }, {}, 'apiPaths'],
    [{ org: 'acme', signing: {} }, {}, 'signing.keyFile'],
    [{ org: 'acme', signing: { keyFile: 'a', keyEnv: 'B' } }, {}, 'signing.keyFile'],
    [{ org: 'acme', signing: { keyEnv: 'B', format: 'x509' } }, {}, 'signing.format'],
    [{ org: 'acme', signing: { keyEnv: 'B', mode: 'all' } }, {}, 'signing.mode'],
    [{ org: 'acme', signing: { keyEnv: 'B', publicKeys: ['hunter2'] } }, {}, 'signing.publicKeys'],
    [{ org: 'acme', signing: { keyEnv: 'B' } }, { PIERRE_PRIVATE_KEY: privateKey }, 'git.signing.keyEnv'],
    [{ org: 'acme', signing: { keyFile: '/nonexistent/key' } }, { PIERRE_PRIVATE_KEY: privateKey }, 'git.signing.keyFile'],
    [{}, {}, 'org'],
    [{ org: 'acme/../x' }, {}, 'org'],
    [{ org: 'acme' }, {}, 'PIERRE_PRIVATE_KEY'],
    [{ org: 'acme', privateKeyEnv: 'MY_KEY' }, {}, 'MY_KEY'],
    [{ org: 'acme', privateKeyEnv: 'A', privateKeyFile: 'b' }, {}, 'privateKeyFile'],
    [{ org: 'acme', privateKeyFile: '/nonexistent/key.pem' }, {}, 'ENOENT'],
    [{ org: 'acme', privateKey }, {}, 'privateKey'],
    [{ org: 'acme', algorithm: 'HS256' }, {}, 'algorithm'],
    [{ org: 'acme', storageUrl: 'http://git.example.com' }, { PIERRE_PRIVATE_KEY: privateKey }, 'storageUrl'],
    [{ org: 'acme', apiUrl: 'nonsense' }, { PIERRE_PRIVATE_KEY: privateKey }, 'apiUrl'],
  ])('%j is refused, naming the field', (input, env, named) => {
    const make = () => gitHostFromConfig(codeStorage(input), env)
    expect(make).toThrow(InvalidInputError)
    expect(make).toThrow(named)
    expect(make).not.toThrow('PRIVATE KEY-----\n')
  })
})

describe('the configuration of any HTTPS host', () => {
  it('takes a callback, or one token from the environment', async () => {
    const called = gitHostFromConfig(https({ type: 'https', url: 'https://git.example.com', token: async () => ({ username: 'u', token: 'p' }) }))
    expect(called).toBeInstanceOf(HttpsGitHost)
    expect(await called.readAccess('a/b', { ephemeral: false })).toMatchObject({ username: 'u', token: 'p' })
    const fixed = gitHostFromConfig(https({ url: 'https://git.example.com', tokenEnv: 'GIT_TOKEN' }), { GIT_TOKEN: 'secret' })
    expect(await fixed.writeAccess('a/b', { branch: 'agent/x' })).toMatchObject({ username: 'x-access-token', token: 'secret' })
  })

  it.each([
    [{ url: 'https://git.example.com' }, 'token'],
    [{ url: 'https://git.example.com', token: 'secret' }, 'token'],
    [{ url: 'https://git.example.com', tokenEnv: 'GIT_TOKEN', token: async () => ({ username: 'u', token: 'p' }) }, 'token'],
    [{ url: 'https://git.example.com', tokenEnv: 'GIT_TOKEN' }, 'GIT_TOKEN is not set'],
    [{ tokenEnv: 'GIT_TOKEN' }, 'url'],
  ])('%j is refused, naming the field', (input, named) => {
    expect(() => gitHostFromConfig(https(input), {})).toThrow(named)
  })
})
