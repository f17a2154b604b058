import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
beforeEach(async () => {
  deployment = await startDeployment({ limits: [2] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
})
afterEach(() => deployment.close())

// The local provider kills what a call that is broken off has started, with all that descends from it.
it('a step whose start is broken off by a hand-over is run once and to its end', { timeout: 300_000 }, async () => {
  for (let afterMs = 0; afterMs < 36; afterMs += 6) {
    const first = await deployment.startConsumer()
    const job = await deployment.queue.enqueue({ repository: 'acme/web', steps: ['echo began; sleep 0.2; echo ended'], push: false })
    await until('the step to be about to start', async () => (await job.status()).step !== null)
    // No wait for anything: the moment of the stop is what varies.
    await delay(afterMs)
    await first.stop()
    const second = await deployment.startConsumer()
    const result = await job.result({ timeoutMs: 150_000 })
    expect(result, `stopped ${afterMs} ms after the step was recorded`).toMatchObject({ status: 'succeeded', steps: [{ exitCode: 0, stdoutTail: 'began\nended\n' }] })
    await second.stop()
  }
})
