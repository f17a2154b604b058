import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkConfig } from '../../src/config/check.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sy-check-'))
})
afterAll(() => rm(folder, { recursive: true, maxRetries: 10 }))

async function check(content: unknown, environment: Readonly<Record<string, string>> = {}) {
  const path = join(folder, 'switchyard.config.json')
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content))
  return await checkConfig({ path, environment })
}

const good = {
  git: { type: 'https', url: 'https://git.example.com', tokenEnv: 'TOKEN' },
  providers: [{ name: 'local', type: 'local', limit: { sandboxes: 4 } }, { name: 'e2b', type: 'e2b', limit: { sandboxes: 20 } }],
}
const keys = { TOKEN: 'secret-token', E2B_API_KEY: 'e2b_0' }

it('finds nothing wrong with a good one, and calls nobody', async () => {
  expect(await check(good, keys)).toMatchObject({ problems: [], warnings: [], config: { deployment: 'default' } })
})

it('says everything at once: the file, the environment, each adapter, the git host, the store', async () => {
  const { problems, config } = await check(
    {
      deploymnt: 'x',
      consumer: { maxJob: 3, leaseMs: 'soon' },
      git: { type: 'https', url: 'https://git.example.com', tokn: 'x' },
      providers: [{ name: 'Local', type: 'local', limit: { sandboxes: 0 } }, { name: 'e2b', type: 'e2bb', limit: { sandboxes: 2 } }, { name: 'm', type: 'modal', limit: {}, appp: 'x' }],
      artifacts: { s3: { bucket: 'bucket', region: 'r', accessKeyIdEnv: 'NOWHERE', secretAccessKeyEnv: 'NOWHERE' } },
    },
    { SWITCHYARD_HTTP_PORT: '80' },
  )
  expect(config).toBeUndefined()
  for (const wanted of [
    /^deploymnt: is not a known field of configuration \(did you mean "deployment"\?\)/,
    /^consumer\.maxJob: is not a known field of consumer \(did you mean "maxJobs"\?\)/,
    /^consumer\.leaseMs: /,
    /^git\.tokn: is not a known field of git \(did you mean "token"\?\)/,
    /^providers\[0\]\.name: must be at most 32 lower-case letters/,
    /^providers\[0\]\.limit\.sandboxes: must be at least 1/,
    /^providers\[1\]\.type: "e2bb" is not a type of provider \(did you mean "e2b"\?\)/,
    /^providers\[2\]\.limit\.sandboxes: /,
    /^providers\[2\]\.appp: is not a known field of providers\[2\] \(did you mean "app"\?\)/,
    /^artifacts\.s3\.accessKeyIdEnv: the environment variable NOWHERE is not set/,
  ]) expect(problems.filter((problem) => wanted.test(problem)), String(wanted)).toHaveLength(1)
  expect(new Set(problems).size).toBe(problems.length)
})

describe('what can’t be read as a configuration', () => {
  it.each([
    ['no JSON', '{ "a": ', /is not valid JSON/],
    ['a list', '[]', /^configuration: must be an object of settings/],
    ['a text', '"x"', /^configuration: must be an object of settings/],
    ['providers that are none', { providers: 'e2b' }, /^providers: must be a list of providers/],
    ['an entry that is none', { providers: [null] }, /^providers\[0\]: must be an object/],
    ['a git host that is none', { git: 7 }, /^git: must be an object/],
  ])('%s', async (_name, content, problem) => {
    const { problems } = await check(content)
    expect(problems).toEqual([expect.stringMatching(problem)])
  })
  it('a file that is not there', async () => {
    expect((await checkConfig({ path: join(folder, 'none.json'), environment: {} })).problems).toEqual([expect.stringMatching(/^--config: there is no file/)])
  })
})

it('warns of what only consumers need, and of variables that nobody reads', async () => {
  const { problems, warnings } = await check({}, { SWITCHYARD_REDIS_URI: 'redis://127.0.0.1', SWITCHYARD_OPERATOR: 'anna' })
  expect(problems).toEqual([])
  expect(warnings).toEqual([
    'SWITCHYARD_REDIS_URI: is not a variable that Switchyard knows (did you mean "SWITCHYARD_REDIS_URL"?), so it has no effect; the known ones are listed by "switchyard --help"',
    expect.stringMatching(/^git: is missing; producers and the board need none/),
    expect.stringMatching(/^providers: none is given/),
  ])
})

it('never repeats a key', async () => {
  const { problems } = await check({ ...good, redis: { url: 'http://user:hunter22@host' } }, keys)
  expect(problems.join()).not.toContain('hunter22')
})
