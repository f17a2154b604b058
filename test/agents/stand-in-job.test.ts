import { readFile } from 'node:fs/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { JobSpecInput } from '../../src/job/spec.js'
import { startDeployment, until, type Deployment } from '../e2e/deployment.js'
import { startModelServer, type ModelServer } from '../servers/model/server.js'
import { bubblewrapWorks } from '../servers/bubblewrap-places.js'
import { whole } from '../whole.js'
import { identity, prompt } from './interrupted-agent.js'
import { expectSameConversation, expectWentOn, moveInTheMiddle } from './moved-job.js'

let deployment: Deployment
let model: ModelServer
let spec: JobSpecInput
const secrets = { STANDIN_API_KEY: 'sk-local-of-this-test' }
beforeEach(async () => {
  model = await startModelServer({ apiKey: secrets.STANDIN_API_KEY })
  deployment = await startDeployment({ limits: [1, 1], loopbackPorts: [Number(new URL(model.url).port)] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n', 'agent.mjs': await readFile('test/agents/stand-in.mjs', 'utf8') })
  spec = {
    repository: 'acme/web',
    env: { ...identity, SESSION: 'session-1', PROMPT: prompt, STANDIN_BASE_URL: model.url },
    secrets: Object.keys(secrets),
    steps: [
      {
        name: 'agent',
        run: 'exec node agent.mjs --session-id "$SESSION" "$PROMPT"',
        resume: `exec node agent.mjs --resume "$(find ~/.standin/projects -name "$SESSION.jsonl")" "You were interrupted ($SWITCHYARD_RESUMED); look at git status and go on"`,
      },
    ],
    checkpoint: { paths: ['~/.standin/projects'] },
    timeout: '5m',
  }
})
afterEach(async () => {
  await deployment.close()
  await model.close()
})

it('loses its sandbox in the middle of its turn and goes on in the same conversation at another provider', { timeout: 600_000 }, async () => {
  const moved = await moveInTheMiddle(deployment, spec, secrets, model)
  await expectWentOn(moved, model)
  expect(moved.log).toContain('"remembered":5')
})

it('is parked in the middle of its turn when its budget is used up, and goes on in the same conversation when that is raised', { timeout: 600_000 }, async () => {
  const { queue, providers } = deployment
  const consumer = { providers: providers.map((provider) => ({ provider, limit: { sandboxes: 1 }, price: { perSandboxHour: 3_600 } })), settings: { budgetPeriodMs: 3_000 } }
  const moved = await moveInTheMiddle(deployment, { ...spec, budget: { amount: 100_000 } }, secrets, model, {
    consumer,
    interrupt: async (job) => {
      await queue.budgets.setJob(job.jobId, 1)
      await until('it is parked', async () => (await job.status()).state === 'parked', 200_000)
      expect((await job.status()).reason).toContain('waits for its own budget')
      await queue.budgets.setJob(job.jobId, 100_000)
    },
  })
  expect(moved.result, moved.log).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'parked' }, { outcome: 'succeeded' }] })
  await expectSameConversation(moved, model)
})

// What an agent makes of what it finds: the product does for both as for the first.
it.runIf(whole)('goes on by its id as well, where the folder is the same', { timeout: 600_000 }, async (context) => {
  if (!(await bubblewrapWorks())) return context.skip('without bubblewrap each sandbox has its repository in a folder of its own')
  const resume = `exec node agent.mjs --resume "$SESSION" 'You were interrupted; look at git status and go on'`
  const moved = await moveInTheMiddle(deployment, { ...spec, steps: [{ name: 'agent', run: 'exec node agent.mjs --session-id "$SESSION" "$PROMPT"', resume }] }, secrets, model)
  await expectWentOn(moved, model)
})

it.runIf(whole)('begins again, and pays for all of it again, where no path is named', { timeout: 600_000 }, async () => {
  const { result } = await moveInTheMiddle(deployment, { ...spec, steps: [{ name: 'agent', run: 'exec node agent.mjs --session-id "$SESSION" "$PROMPT"' }], checkpoint: {} }, secrets, model)
  expect(result.status).toBe('succeeded')
  expect(model.turns().map(({ turn, answers }) => [turn, answers])).toEqual([[1, 2], [2, 2], [3, 2], [4, 1], [5, 1]])
})
