/**
 * Real agents from their registry, by `npm run test:agents`. SWITCHYARD_AGENTS says which, with commas; without it nothing here is run,
 * since the smallest takes 55 MiB. What can't be installed is skipped, with a sentence.
 */
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { agentsCache, installAgent, realAgents, type InstalledAgent } from '../../src/cli/demo/real-agents.js'
import { startModelServer, type ModelServer } from '../servers/model/server.js'
import { startDeployment } from '../e2e/deployment.js'
import { bubblewrapWorks } from '../servers/bubblewrap-places.js'
import { documentedJob, documentedRecipe, modelEnvironment } from './documented-recipes.js'
import { Agent, identity, prompt } from './interrupted-agent.js'
import { expectWentOn, moveInTheMiddle } from './moved-job.js'

const chosen = (process.env['SWITCHYARD_AGENTS'] ?? '').split(',').filter((name) => name !== '')

describe.skipIf(chosen.length === 0).each(chosen.length === 0 ? ['none'] : chosen)('%s', (name) => {
  let installed: InstalledAgent | string
  beforeAll(async () => {
    const agent = realAgents[name]
    if (agent === undefined) throw new Error(`SWITCHYARD_AGENTS: "${name}" is none of ${Object.keys(realAgents).join(', ')}`)
    const say = (line: string) => void process.stderr.write(`${line}\n`)
    installed = await installAgent(agent, { cache: agentsCache(process.env), signal: AbortSignal.timeout(600_000), say }).catch((error: unknown) => String(error))
    if (typeof installed === 'string') say(`skipped: ${installed}`)
  }, 620_000)

  let folder: string
  let model: ModelServer
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'switchyard-agent-'))
    model = await startModelServer()
  })
  afterEach(async () => {
    await model.close()
    await rm(folder, { recursive: true, force: true, maxRetries: 10 })
  })

  it('goes on in its conversation in another home, by what its recipe keeps', { timeout: 300_000 }, async (context) => {
    if (typeof installed === 'string') return context.skip(installed)
    const recipe = documentedRecipe(name, model)
    const path = `${installed.bin}:${process.env['PATH'] ?? ''}`
    const agent = await Agent.prepare({ ...recipe, env: { ...recipe.env, PATH: path } }, folder, randomUUID())
    await agent.diesInTheMiddle()
    const before = model.requests.length
    await agent.moves()
    const { code, output } = await agent.resumes()
    expect(code, output).toBe(0)
    say(name, model)
    // The first two turns were answered once, and every request since then brought their results along.
    expect(model.turns().slice(0, 2).map(({ answers }) => answers)).toEqual([1, 1])
    for (const { purpose, done } of model.requests.slice(before)) {
      if (purpose.kind === 'turn') expect(done).toEqual(expect.arrayContaining([1, 2]))
      else expect(purpose.kind).toBe('aside')
    }
    expect(model.turns().at(-1)).toMatchObject({ turn: 5, answers: 1 })
    const files = await Promise.all(['one.txt', 'two.txt', 'four.txt'].map((file) => readFile(join(agent.repository, file), 'utf8')))
    expect(files).toEqual(['one\n', 'two\n', 'four\n'])
  })

  it('as a job, loses its sandbox in the middle of its turn and goes on in the same conversation at another provider', { timeout: 900_000 }, async (context) => {
    if (typeof installed === 'string') return context.skip(installed)
    if (!anyFolder.includes(name) && !(await bubblewrapWorks())) return context.skip(`${name} finds its conversation in the same folder only, and without bubblewrap each sandbox has its repository in another one`)
    const deployment = await startDeployment({ limits: [1, 1], readOnlyPaths: [installed.folder], loopbackPorts: [Number(new URL(model.url).port)] })
    try {
      await deployment.seed('acme/web', { 'README.md': 'hello\n' })
      const job = documentedJob(name)
      const path = `${installed.bin}:/usr/local/bin:/usr/bin:/bin:${dirname(process.execPath)}`
      const env = { ...job.env, ...identity, ...modelEnvironment(name, model), SESSION: randomUUID(), PROMPT: prompt, PATH: path }
      const secrets = Object.fromEntries((job.secrets ?? []).map((secret) => [typeof secret === 'string' ? secret : secret.name, model.apiKey]))
      const moved = await moveInTheMiddle(deployment, { ...job, env }, secrets, model)
      await expectWentOn(moved, model)
      say(`${name}, at ${moved.result.attempts.map(({ provider }) => provider).join(' and then ')}`, model)
    } finally {
      await deployment.close()
    }
  })
})

/** Those whose recipe finds the conversation wherever it was. */
const anyFolder = ['claude', 'codex']

/** What the model was asked, for whoever runs this. */
function say(name: string, model: ModelServer): void {
  const turns = model.turns().map(({ turn, answers, inputTokens, cachedTokens, outputTokens }) => `  turn ${turn}: answered ${answers === 1 ? 'once' : `${answers} times`}, ${inputTokens} tokens in (${cachedTokens} cached), ${outputTokens} out`)
  process.stderr.write(`${name}: what its model was asked\n${turns.join('\n')}\n`)
}
