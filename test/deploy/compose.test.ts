import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { environmentFields } from '../../src/config/environment.js'
import { createGitHost } from '../../src/config/git-host.js'
import { loadConfig } from '../../src/config/load.js'
import { createProviders } from '../../src/config/providers.js'
import { generateDevelopmentKeys } from '../../src/embedded/index.js'
import { makePlace } from '../cli/run-switchyard.js'

/** What can be held against the files without a Docker engine. */

const serviceSchema = z.looseObject({
  command: z.array(z.string()),
  user: z.string(),
  healthcheck: z.looseObject({ test: z.array(z.string()).min(2), interval: z.string(), timeout: z.string(), retries: z.int() }),
  environment: z.record(z.string(), z.string()).optional(),
  volumes: z.array(z.string()).optional(),
  ports: z.array(z.string()).optional(),
  env_file: z.array(z.unknown()).optional(),
  deploy: z.looseObject({ replicas: z.int() }).optional(),
  cap_drop: z.array(z.string()),
  security_opt: z.array(z.string()),
  restart: z.string(),
})
const composeSchema = z.looseObject({ services: z.record(z.string(), serviceSchema) })
const text = readFileSync('docker-compose.yml', 'utf8')
const { services } = composeSchema.parse(parse(text, { merge: true }))
const service = (name: string) => serviceSchema.parse(services[name])
const dockerfile = readFileSync('deploy/Dockerfile', 'utf8')

describe('docker-compose.yml', () => {
  it('has Redis, consumers, the API and the board, each non-root, healthy by its own word and without privileges', () => {
    expect(Object.keys(services).sort()).toEqual(['board', 'consumer', 'redis', 'serve'])
    for (const { user, cap_drop: dropped, security_opt: security, restart } of Object.values(services)) {
      expect(user).not.toMatch(/^(root|0)?$/)
      expect(dropped).toEqual(['ALL'])
      expect(security).toContain('no-new-privileges:true')
      expect(restart).toBe('unless-stopped')
    }
  })

  it('keeps what Redis holds, and never evicts', () => {
    const command = service('redis').command.join(' ')
    expect(command).toContain('--appendonly yes')
    expect(command).toContain('--maxmemory-policy noeviction')
    expect(service('redis').volumes).toContain('redis:/data')
    expect(service('redis').ports).toBeUndefined()
  })

  it('runs several consumers, which alone have the keys', () => {
    expect(service('consumer').deploy?.replicas).toBeGreaterThan(1)
    expect(service('consumer').env_file).toHaveLength(1)
    for (const name of ['serve', 'board']) expect(service(name).env_file).toEqual([])
  })

  it('shows the API and the board to this machine alone, the board with a password that must be set', () => {
    for (const name of ['serve', 'board']) expect(service(name).ports?.map((port) => port.startsWith('127.0.0.1:'))).toEqual([true])
    expect(service('board').environment?.['SWITCHYARD_BOARD_PASSWORD']).toMatch(/^\$\{SWITCHYARD_BOARD_PASSWORD:\?/)
  })

  it('sets variables that there are, and starts commands that the program takes', { timeout: 120_000 }, async () => {
    const known = [...Object.keys(environmentFields), 'SWITCHYARD_CONFIG', 'SWITCHYARD_BOARD_PASSWORD']
    const place = await makePlace()
    try {
      for (const name of ['consumer', 'serve', 'board']) {
        const { command, environment, healthcheck } = service(name)
        for (const variable of Object.keys(environment ?? {})) expect(known).toContain(variable)
        const health = healthcheck.test[1] === 'switchyard' ? [healthcheck.test.slice(2)] : []
        for (const args of [command, ...health]) {
          const help = await place.command([...args, '--help'])
          expect(help.code, help.stderr).toBe(0)
          // Redis is not there: whatever is wrong is that, and not the usage.
          const real = await place.command(args, { SWITCHYARD_REDIS_URL: 'redis://127.0.0.1:1', SWITCHYARD_BOARD_PASSWORD: 'x' })
          expect(real.stderr).toMatch(/redis: 127\.0\.0\.1:1|git: is missing/)
        }
      }
    } finally {
      await place.remove()
    }
  })

  it('mounts a configuration that is right', async () => {
    const mount = service('consumer').volumes?.find((volume) => volume.includes('switchyard.config.json')) ?? ''
    const [source, target] = mount.split(':')
    expect(service('consumer').environment?.['SWITCHYARD_CONFIG']).toBe(target)
    const environment = { ...service('consumer').environment, SWITCHYARD_CONFIG: undefined, PIERRE_PRIVATE_KEY: generateDevelopmentKeys().privateKey }
    const { config, warnings } = await loadConfig({ path: source, environment })
    expect(warnings).toEqual([])
    expect(config.redis.url).toBe('redis://redis:6379')
    expect(createGitHost(config.git, { environment }).name).toBe('code-storage')
    const made = await createProviders(config.providers, { environment })
    expect(made).toHaveLength(3)
    await Promise.all(made.map(({ provider }) => provider.close()))
  })
})

describe('deploy/Dockerfile', () => {
  it('copies files that there are and that the build’s context has', () => {
    const ignored = readFileSync('.dockerignore', 'utf8').split('\n')
    for (const [, sources] of dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)) {
      for (const source of (sources ?? '').split(' ')) {
        expect(existsSync(source), source).toBe(true)
        expect(ignored).toContain(`!${source}`)
      }
    }
  })
  it('ends as an ordinary user and starts what compose names', () => {
    expect([...dockerfile.matchAll(/^USER (\S+)$/gm)].map((match) => match[1])).toEqual(['node'])
    expect(dockerfile).toContain('ENTRYPOINT ["tini", "--", "switchyard"]')
    const { bin } = JSON.parse(readFileSync('package.json', 'utf8')) as { bin: { switchyard: string } }
    expect(dockerfile).toContain(`ln -s /app/${bin.switchyard}`)
  })
})
