import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { agentsCache, installAgent, realAgents, type RealAgent } from '../../src/cli/demo/real-agents.js'

let cache: string
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'switchyard-cache-'))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(cache, { recursive: true, force: true, maxRetries: 10 })
})

const agent = realAgents['qwen']!
const install = (wanted: RealAgent, signal = new AbortController().signal) => {
  const said: string[] = []
  return { said, outcome: installAgent(wanted, { cache, signal, say: (line) => void said.push(line) }) }
}

it('says in a sentence that a registry is out of reach, and leaves nothing', async () => {
  vi.stubEnv('npm_config_registry', 'http://127.0.0.1:2')
  vi.stubEnv('npm_config_fetch_retries', '0')
  vi.stubEnv('npm_config_cache', join(cache, 'npm'))
  const { said, outcome } = install(agent)
  await expect(outcome).rejects.toThrow(/^Qwen Code can’t be installed here \(@qwen-code\/qwen-code@[\d.]+: .*ECONNREFUSED.*\)$/)
  expect(said).toEqual([expect.stringMatching(/^Installing @qwen-code\/qwen-code@[\d.]+ from the npm registry into .*qwen-[\d.]+ \(\d+ MiB\)/)])
  expect((await readdir(cache)).filter((name) => name !== 'npm')).toEqual([])
})

it('says that a package has no program for this machine, and leaves nothing', async () => {
  // npm installs a folder by its path as it does a package.
  const own = join(cache, 'own')
  await mkdir(own)
  await writeFile(join(own, 'package.json'), '{"name":"own","version":"1.0.0"}')
  vi.stubEnv('npm_config_cache', join(cache, 'npm'))
  vi.stubEnv('npm_config_offline', 'true')
  await expect(install({ ...agent, package: 'own', version: `file:${own}`, programs: ['own/program'] }).outcome).rejects.toThrow(/: it has no program for \w+-\w+\)$/)
  expect((await readdir(cache)).filter((name) => name.startsWith('installing-'))).toEqual([])
})

it('takes one that is there without a word', async () => {
  const folder = join(cache, `qwen-${agent.version}`)
  await mkdir(join(folder, 'bin'), { recursive: true })
  await writeFile(join(folder, 'bin', 'qwen'), '')
  const { said, outcome } = install(agent)
  expect(await outcome).toEqual({ folder, bin: join(folder, 'bin') })
  expect(said).toEqual([])
})

it('keeps them where it is told to, or in this user’s folder for caches', () => {
  expect(agentsCache({ SWITCHYARD_AGENTS_CACHE: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a')
  expect(agentsCache({ XDG_CACHE_HOME: '/b' })).toBe('/b/switchyard/agents')
  expect(agentsCache({ XDG_CACHE_HOME: 'relative' })).toMatch(/^\/.*\.cache\/switchyard\/agents$/)
})
