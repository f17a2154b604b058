import { describe, expect, it } from 'vitest'
import { daytonaProviderConfigSchema } from '../../src/providers/daytona/index.js'
import { createParams } from '../../src/providers/daytona/create-params.js'
import { egressFor } from '../../src/providers/e2b/network.js'
import { modalNetwork } from '../../src/providers/modal/network.js'
import { HttpsGitHost } from '../../src/git/https-host.js'
import { letThrough } from '../../src/providers/let-through.js'
import { parseJobSpec, type NetworkPolicy } from '../../src/job/spec.js'
import { sandboxRequest } from './daytona-fixture.js'

const daytona = (network: NetworkPolicy, gitHosts: readonly string[]) => {
  const { domainAllowList, networkAllowList } = createParams(daytonaProviderConfigSchema.parse({}), sandboxRequest({ network, gitHosts })) as Record<string, unknown>
  return { domainAllowList, networkAllowList }
}

describe('what a job may reach', () => {
  it('is its git host alone, or the hosts of a list and its git host', () => {
    expect(letThrough('git-only', ['git.example.com:8443', '127.0.0.1:80', '[::1]:8080', 'acme.code.storage'])).toEqual([
      { host: 'git.example.com', port: '8443' },
      { host: '127.0.0.1', port: '80' },
      { host: '::1', port: '8080' },
      { host: 'acme.code.storage', port: undefined },
    ])
    expect(letThrough(['packages.example.com', 'acme.code.storage'], ['acme.code.storage', 'git.example.com']).map(({ host }) => host)).toEqual([
      'packages.example.com',
      'acme.code.storage',
      'git.example.com',
    ])
  })

  it('holds the git host with a list at every provider that takes one', () => {
    const [list, git] = [['packages.example.com'], ['acme.code.storage']]
    expect(egressFor('e2b', list, git).network.allowOut).toEqual(['packages.example.com', 'acme.code.storage'])
    expect(modalNetwork('modal', { network: list, gitHosts: git }).outboundDomainAllowlist).toEqual(['packages.example.com', 'acme.code.storage'])
    expect(daytona(list, git).domainAllowList).toBe('packages.example.com,acme.code.storage')
  })

  it('is a git host on a port of its own as far as each provider can', () => {
    expect(egressFor('e2b', 'git-only', ['10.0.0.5:8443']).network.allowOut).toEqual(['10.0.0.5'])
    expect(egressFor('e2b', 'git-only', ['git.example.com:80']).network.allowOut).toEqual(['git.example.com'])
    expect(() => egressFor('e2b', 'git-only', ['git.example.com:8443'])).toThrow('E2B lets names through on ports 80 and 443 only, and the git host is "git.example.com:8443"; use the network "open"')
    expect(modalNetwork('modal', { network: 'git-only', gitHosts: ['git.example.com:443', '10.0.0.5:8443'] })).toEqual({ outboundDomainAllowlist: ['git.example.com'], outboundCidrAllowlist: ['10.0.0.5/32'] })
    for (const gitHost of ['git.example.com:8443', 'git.example.com:80']) {
      for (const network of ['git-only' as const, ['git.example.com'], ['packages.example.com']]) {
        const refused = `Modal lets names through by TLS on port 443 only, and "${gitHost}" is elsewhere; use the network "open", another provider, or the host's address`
        expect(() => modalNetwork('modal', { network, gitHosts: [gitHost] })).toThrow(refused)
      }
    }
    expect(() => modalNetwork('modal', { network: ['packages.example.com:8081'], gitHosts: ['git.example.com'] })).toThrow('"packages.example.com:8081" is elsewhere')
    expect(daytona('git-only', ['git.example.com:8443', '10.0.0.5:8443'])).toEqual({ domainAllowList: 'git.example.com', networkAllowList: '10.0.0.5/32' })
    expect(() => daytona('git-only', ['[2001:db8::1]:8443'])).toThrow(/is an IPv6 address, and Daytona can let through nothing else/)
  })

  it('says of a git host over plain HTTP which port it has', () => {
    const host = (url: string) => new HttpsGitHost({ url, token: () => Promise.resolve({ username: 'x', token: 't' }) }).hosts
    expect([host('http://localhost'), host('http://127.0.0.1:3000/git'), host('https://git.example.com'), host('https://git.example.com:8443')]).toEqual([
      ['localhost:80'],
      ['127.0.0.1:3000'],
      ['git.example.com'],
      ['git.example.com:8443'],
    ])
  })

  it('is never an empty list', () => {
    expect(() => parseJobSpec({ repository: 'acme/web', steps: ['true'], network: [] })).toThrow('network: is empty; name at least one host, or use "git-only"')
  })
})
