import assert from 'node:assert/strict'
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { z } from 'zod'
import { createRunner } from '../../runner/index.js'
import { type Provider, sandboxTags } from '../provider.js'
import type { ConformanceCase, Fixture } from './fixture.js'
import { readAll } from './runner-cases.js'

const taskVariable = 'SWITCHYARD_CONFORMANCE_TASK'
const taskSchema = z.strictObject({ name: z.string(), deployment: z.string(), jobId: z.string(), image: z.string().optional(), timeoutMs: z.number() })
const progressSchema = z.strictObject({ sandboxId: z.string(), stdoutOffset: z.number() })

const key = 'survives'
const lines = 400
const linesBefore = 150
/** Prints a part of its output at once, and the rest when it is told to. */
const step = {
  key,
  run: `echo started >>"$HOME/starts"; i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo "line $i"; [ $i -ne ${linesBefore} ] || while [ ! -e "$HOME/go" ]; do sleep 0.1; done; done; exit 7`,
  cwd: undefined,
  env: {},
}
const output = Array.from({ length: lines }, (_, index) => `line ${index + 1}\n`).join('')

/**
 * What the suite's other process does: creates a sandbox, starts a step in it and reads it in small pieces, telling of each
 * on its standard output, until it is killed.
 */
export async function runConformanceClient(provider: Provider): Promise<void> {
  const { name, deployment, jobId, image, timeoutMs } = taskSchema.parse(JSON.parse(process.env[taskVariable] ?? 'null'))
  const options = { timeoutMs }
  const tags = sandboxTags({ deployment, runId: jobId, attempt: 1 })
  const sandbox = await provider.create({ name, tags, image, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: [] }, options)
  const runner = createRunner({ provider, sandboxId: sandbox.id })
  const { repositoryPath } = await runner.install(options)
  await provider.exec(sandbox.id, { script: 'git init -q "$FOLDER"', env: { FOLDER: repositoryPath } }, options)
  await runner.start(step, options)
  for (let stdoutOffset = 0; ; ) {
    const slice = await runner.read(key, { stdoutOffset, stderrOffset: 0, waitMs: 5_000, maxBytes: 100 }, options)
    stdoutOffset += slice.stdout.length
    process.stdout.write(`${JSON.stringify({ sandboxId: sandbox.id, stdoutOffset })}\n`)
  }
}

export const killedClientCase: ConformanceCase = {
  name: 'runner: goes on with a step whose process was killed with SIGKILL, from a new process',
  run: async (fixture) => {
    const { provider, options } = fixture
    const request = fixture.request()
    const { sandboxId, stdoutOffset } = await startAndKill(fixture, request.name, request.tags['switchyard-job'] ?? '')
    try {
      const found = await fixture.list(request.tags)
      assert.deepEqual(found.map(({ id }) => id), [sandboxId])
      const runner = createRunner({ provider, sandboxId })
      // A successor does not know how far the first has come: it starts the step as well, and that does nothing.
      await runner.start(step, options)
      await provider.exec(sandboxId, { script: ': >"$HOME/go"' }, options)
      const { stdout, exitCode } = await readAll(runner, fixture, key, 4_096, stdoutOffset)
      assert.equal(stdout.toString(), output.slice(stdoutOffset))
      assert.equal(exitCode, 7)
      assert.equal((await provider.exec(sandboxId, { script: 'cat "$HOME/starts"' }, options)).stdout, 'started\n')
    } finally {
      await provider.kill(sandboxId, options)
    }
  },
}

/** Runs the other process until it has read a part of the output, and kills it while it reads. */
async function startAndKill(fixture: Fixture, name: string, jobId: string): Promise<z.output<typeof progressSchema>> {
  const { file, args, env } = fixture.client()
  const { deployment, image, callTimeoutMs } = fixture
  const task: z.output<typeof taskSchema> = { name, deployment, jobId, timeoutMs: callTimeoutMs, ...(image === undefined ? {} : { image }) }
  const child = spawn(file, [...args], { env: { ...env, [taskVariable]: JSON.stringify(task) }, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = once(child, 'close')
  try {
    return await lastProgress(child)
  } finally {
    child.kill('SIGKILL')
    await ended
  }
}

async function lastProgress(child: ChildProcessByStdio<null, Readable, Readable>): Promise<z.output<typeof progressSchema>> {
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  let last: z.output<typeof progressSchema> | undefined
  for await (const line of createInterface({ input: child.stdout })) {
    const progress = progressSchema.parse(JSON.parse(line))
    // Its last call is under way when it is killed: it has told of the one before.
    if (last !== undefined && progress.stdoutOffset > last.stdoutOffset && last.stdoutOffset > 0) return progress
    last = progress
  }
  return assert.fail(`the other process ended before it had read anything: ${stderr}`)
}
