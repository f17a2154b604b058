import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, it } from 'vitest'
import { commandText, runCommand } from '../../src/providers/local/command.js'

function keepBusy(ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until);
}

// Libuv asks after all children when one has ended: of one that ends meanwhile the end is told before what it wrote is read. "could not be entered" was said of a
// sandbox then, or a command's output was lost, where the process had no turn for the next 100 ms.
it('has all of a command’s output on a process that is busy when the command ends', async () => {
  const other = spawn('/bin/sh', ['-c', 'printf x'], { stdio: ['ignore', 'pipe', 'ignore'] })
  other.stdout.once('data', () => keepBusy(700))
  other.once('exit', () => setImmediate(() => keepBusy(250)))
  const input = commandText({ script: 'sleep 0.4; printf all' }, { maxFileMiB: 1, newSession: false })
  const outcome = runCommand({ file: '/bin/sh', args: [], env: { PATH: '/usr/bin:/bin' }, cwd: '/', input }, AbortSignal.timeout(60_000))
  keepBusy(200)
  await once(other, 'close')
  expect(await outcome).toMatchObject({ started: true, exitCode: 0, stdout: 'all' })
})
