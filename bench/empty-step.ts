// What a step costs that does nothing: started and read through the runner, beside one bare exec of the same command.
import { createRunner } from '../src/runner/index.js'
import { startDeployment } from '../test/e2e/deployment.js'
import { median, report } from './report.js'

const rounds = 30
const call = { timeoutMs: 60_000 }
const deployment = await startDeployment()
try {
  const sha = await deployment.seed('bench/step', { 'README.md': 'x\n' })
  const [provider] = deployment.providers
  if (provider === undefined) throw new Error('no provider')
  const info = await provider.create({ name: 'bench', tags: {}, image: undefined, resources: {}, lifetimeMs: 600_000, network: 'open', gitHosts: deployment.host.hosts }, call)
  const runner = createRunner({ provider, sandboxId: info.id })
  await runner.install(call)
  await runner.clone({ access: await deployment.host.readAccess('bench/step', { ephemeral: false }), ref: 'refs/heads/main', sha, branch: 'work', checkpoint: null }, call)
  const step: number[] = []
  const bare: number[] = []
  let execs = 0
  const exec = provider.exec.bind(provider)
  provider.exec = (...args) => (execs++, exec(...args))
  for (let round = 0; round < rounds; round++) {
    const key = `step-${round}`
    let start = performance.now()
    const read = { stdoutOffset: 0, stderrOffset: 0, waitMs: 20_000, maxBytes: 65_536 }
    let { exitCode } = await runner.start({ key, run: ':', cwd: undefined, env: {} }, call, read)
    while (exitCode === null) ({ exitCode } = await runner.read(key, read, call))
    step.push(performance.now() - start)
    start = performance.now()
    await exec(info.id, { script: ':' }, call)
    bare.push(performance.now() - start)
  }
  await report('empty-step', {
    stepMs: Math.round(median(step)),
    bareExecMs: Math.round(median(bare)),
    ratio: Number((median(step) / median(bare)).toFixed(2)),
    execsPerStep: Number((execs / rounds).toFixed(2)),
  })
} finally {
  await deployment.close()
}
