import { describe, expect, it } from 'vitest'
import { installOptions } from '../../src/consumers/supervision/package-policy.js'

const settings = { installGit: true, installTimeoutMs: 1000 }
const hosts = ['git.example.com']

describe('what the runner sees to before git is used', () => {
  it('installs where the network reaches mirrors, or may', () => {
    expect(installOptions(settings, 'open', {}, hosts)).toEqual({ certificates: true, packages: { install: true, timeoutMs: 1000 } })
    expect(installOptions(settings, ['mirror.example.org', 'git.example.com'], {}, hosts).packages).toEqual({ install: true, timeoutMs: 1000 })
  })

  it.each([
    [{ ...settings, installGit: false }, 'open', {}, 'consumer.installGit is false'],
    [settings, 'git-only', {}, '"git-only"'],
    [settings, 'none', {}, '"none"'],
    // Never into the system of the machine that the consumer itself runs on.
    [settings, 'open', { sharedSystem: true }, 'share the system of their machine'],
  ] as const)('installs nothing otherwise, and says why: %j, %s, %j', (given, network, capabilities, because) => {
    expect(installOptions(given, network, capabilities, hosts).packages).toEqual({ install: false, because: expect.stringContaining(because) as string })
  })

  it.each([
    [['git.example.com'], true],
    [['10.0.0.1:8443'], true],
    [['127.0.0.1:4000'], false],
    [['localhost', '[::1]:80'], false],
    [['127.0.0.1:4000', 'git.example.com'], true],
  ])('asks for CA certificates for %j: %s', (gitHosts, certificates) => {
    expect(installOptions(settings, 'open', {}, gitHosts).certificates).toBe(certificates)
  })
})
