import { readFile, mkdtemp, rm, readdir, writeFile, cp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startModelServer, type ModelServer } from '../servers/model/server.js'
import { git } from '../e2e/deployment.js'
import { Agent, type Recipe } from './interrupted-agent.js'

const program = resolve('test/agents/stand-in.mjs')
let folder: string
let model: ModelServer
let recipe: Recipe
let agent: Agent
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-agent-'))
  model = await startModelServer()
  recipe = {
    run: `exec node '${program}' --session-id "$SESSION" "$PROMPT"`,
    resume: `exec node '${program}' --resume "$SESSION" 'You were interrupted; look at git status and go on'`,
    setup: [],
    paths: ['~/.standin/projects'],
    env: { STANDIN_BASE_URL: model.url, STANDIN_API_KEY: model.apiKey },
  }
  agent = await Agent.prepare(recipe, folder, 'session-1')
})
afterEach(async () => {
  await model.close()
  await rm(folder, { recursive: true, force: true, maxRetries: 10 })
})

const answersByTurn = () => model.turns().map(({ turn, answers }) => `${turn}:${answers}`).join(' ')
const file = (name: string) => readFile(join(agent.repository, name), 'utf8')

it('goes on in its conversation where its state was taken to: only the turn that was broken off is paid for again', async () => {
  await agent.diesInTheMiddle()
  expect(answersByTurn()).toBe('1:1 2:1 3:1')
  await agent.moves()
  const { code, output } = await agent.resumes()
  expect(code, output).toBe(0)
  expect(answersByTurn()).toBe('1:1 2:1 3:2 4:1 5:1')
  expect(await Promise.all(['one.txt', 'two.txt', 'three.txt', 'four.txt'].map(file))).toEqual(['one\n', 'two\n', 'three\nthree\n', 'four\n'])
  expect(await git(agent.repository, 'log', '--format=%an %s')).toBe('Agent Add two')
})

it('goes on after a last line that was cut off', async () => {
  await agent.diesInTheMiddle()
  await agent.moves()
  const [slug = ''] = await readdir(join(agent.home(2), '.standin/projects'))
  const transcript = join(agent.home(2), '.standin/projects', slug, 'session-1.jsonl')
  await writeFile(transcript, (await readFile(transcript, 'utf8')).slice(0, -20))
  expect((await agent.resumes()).code).toBe(0)
  expect(answersByTurn()).toBe('1:1 2:1 3:2 4:1 5:1')
})

it('has forgotten everything without its state, or in another folder, and does not say so; but for a file that is named', async () => {
  await agent.diesInTheMiddle()
  expect(await agent.resumes()).toMatchObject({ code: 0, output: expect.stringContaining('"I was given no tasks."') as string })
  await agent.moves()
  const slug = agent.repository.replace(/[^A-Za-z0-9]/g, '-')
  await cp(join(agent.home(1), '.standin/projects', slug), join(agent.home(2), '.standin/projects/-elsewhere'), { recursive: true })
  await rm(join(agent.home(2), '.standin/projects', slug), { recursive: true })
  expect(await agent.resumes()).toMatchObject({ code: 0, output: expect.stringContaining('"I was given no tasks."') as string })
  expect(await agent.resumes(recipe.resume.replace('"$SESSION"', '"$HOME/.standin/projects/-elsewhere/session-1.jsonl"'))).toMatchObject({ code: 0, output: expect.stringContaining('All 4 tasks are done.') as string })
  expect(model.requests.filter(({ done }) => done.length === 0).map(({ purpose }) => purpose.kind)).toEqual(['turn', 'lost', 'lost'])
})

it('refuses an id that is in use, and what it can’t work with', async () => {
  await agent.diesInTheMiddle()
  await agent.moves()
  expect(await agent.resumes(recipe.run)).toEqual({ code: 1, output: 'stand-in: session session-1 is already in use\n' })
  expect(await agent.resumes(`STANDIN_API_KEY=wrong; ${recipe.resume}`)).toMatchObject({ code: 1, output: expect.stringContaining('the model does not answer: 401') as string })
})

it.each([['fail', 143], ['succeed', 0]])('ends with what it is told to on SIGTERM: %s, %i', async (onTerm, exitCode) => {
  const { code } = await agent.resumes(`export STANDIN_ON_TERM=${onTerm} SWITCHYARD_ATTEMPT=1; node '${program}' --session-id other "$PROMPT" & child=$!
    until [ -e three.txt ]; do sleep 0.1; done; kill -TERM "$child"; wait "$child"`)
  expect(code).toBe(exitCode)
})
