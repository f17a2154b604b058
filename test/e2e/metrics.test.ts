import { afterAll, beforeAll, expect, it } from 'vitest'
import { deploymentFigures, PrometheusMetrics } from '../../src/monitor/index.js'
import { createRedis } from '../../src/store/index.js'
import { startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
beforeAll(async () => {
  deployment = await startDeployment({ limits: [2, 2] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
}, 300_000)
afterAll(() => deployment.close())

it('measures a job from the queue to its promotion, a failed one, a lost sandbox, and what Redis was asked', { timeout: 240_000 }, async () => {
  const redis = createRedis({ url: deployment.redis.url }, 'commands')
  const metrics = new PrometheusMetrics({ figures: () => deploymentFigures(redis, {}), figuresForMs: 0 })
  const consumer = await deployment.startConsumer({ metrics })
  const value = async (series: RegExp) => {
    const { text } = await metrics.scrape()
    return text.split('\n').filter((line) => !line.startsWith('#') && series.test(line)).reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
  }
  // There from the start, or Prometheus would not see the first as an increase.
  for (const series of [/^cicd_pipeline_run_errors_total\{.*error_type="sandbox-lost"\} 0$/m, /^switchyard_job_work_lost_seconds_total\{provider="local-b"\} 0$/m, /^switchyard_checkpoint_duration_seconds_count\{provider="local-a",outcome="error"\} 0$/m]) {
    expect((await metrics.scrape()).text).toMatch(series)
  }
  const wait = { timeoutMs: 150_000 }
  const good = await deployment.queue.enqueue({ repository: 'acme/web', tenant: 'acme', setup: ['true'], steps: ['echo x >> x.txt', 'true'], promote: { to: 'done', strategy: 'merge' } })
  const bad = await deployment.queue.enqueue({ repository: 'acme/web', tenant: 'zeta', steps: ['exit 3'], push: false })
  expect(await good.result(wait)).toMatchObject({ status: 'succeeded' })
  expect(await bad.result(wait)).toMatchObject({ status: 'failed' })
  // A step whose sandbox is killed from outside: its work since the attempt began is lost, and the job moves.
  const moved = await deployment.queue.enqueue({ repository: 'acme/web', tenant: 'acme', steps: [`echo began; [ "$SWITCHYARD_ATTEMPT" = 2 ] || sleep 300`] })
  await until('its step to run', async () => (await moved.status()).step === '1/1 step 1' && (await value(/^switchyard_provider_running\{/)) === 1, 90_000)
  const { provider, sandboxId } = await moved.status()
  await deployment.providers.find(({ name }) => name === provider)!.kill(sandboxId!, { timeoutMs: 10_000 })
  expect(await moved.result(wait)).toMatchObject({ status: 'succeeded' })

  await until('all to be measured', async () => (await value(/^switchyard_job_ends_total\{/)) === 3)
  const expected: [RegExp, number][] = [
    [/^switchyard_job_starts_total\{tenant="acme"\}/, 2],
    [/^switchyard_job_ends_total\{tenant="acme",status="succeeded"\}/, 2],
    [/^switchyard_job_ends_total\{tenant="zeta",status="failed"\}/, 1],
    [/^cicd_pipeline_run_duration_seconds_count\{.*run_state="pending"/, 3],
    [/^cicd_pipeline_run_duration_seconds_count\{.*run_state="executing",cicd_pipeline_result="success"/, 2],
    [/^cicd_pipeline_run_duration_seconds_count\{.*run_state="executing",cicd_pipeline_result="failure"/, 1],
    [/^cicd_pipeline_run_duration_seconds_count\{.*run_state="finalizing",cicd_pipeline_result="success"/, 2],
    [/^cicd_pipeline_run_duration_seconds_count\{.*run_state="finalizing",cicd_pipeline_result="failure"/, 1],
    [/^switchyard_checkpoint_size_bytes_count\{provider="local-."\}/, 1],
    [/^cicd_pipeline_run_errors_total\{cicd_pipeline_name="agents",error_type="step-failed"\}/, 1],
    [/^cicd_pipeline_run_active\{/, 0],
    [/^switchyard_sandbox_create_duration_seconds_count\{provider="local-.",outcome="ok"\}/, 4],
    [/^switchyard_clone_duration_seconds_count\{.*outcome="ok"\}/, 4],
    [/^switchyard_step_duration_seconds_count\{kind="setup",outcome="ok"\}/, 1],
    [/^switchyard_step_duration_seconds_count\{kind="step",outcome="ok"\}/, 3],
    [/^switchyard_step_duration_seconds_count\{kind="step",outcome="failed"\}/, 1],
    [/^switchyard_push_duration_seconds_count\{outcome="ok"\}/, 2],
    [/^switchyard_promotion_duration_seconds_count\{outcome="ok"\}/, 1],
    [/^switchyard_job_moves_total\{.*why="lost"\}/, 1],
    [/^switchyard_errors_total\{owner="[a-z-]+",kind="sandbox-lost",provider="local-.",reaction="move"\}/, 1],
    [/^switchyard_provider_limit\{/, 4],
    [/^switchyard_redis_up/, 1],
  ]
  // What is counted beside an end may be so right after it.
  for (const [series, wanted] of expected) await expect.poll(async () => [series.source, await value(series)]).toEqual([series.source, wanted])
  for (const series of [/^switchyard_checkpoint_size_bytes_sum\{/, /^switchyard_job_work_lost_seconds_total\{/, /^switchyard_sandbox_time_seconds_total\{tenant="acme"\}/, /^switchyard_redis_command_duration_seconds_count\{command="script:run-save"\}/, /^switchyard_redis_command_duration_seconds_count\{command="script:bullmq-/]) {
    await expect.poll(() => value(series), { timeout: 20_000, message: series.source }).toBeGreaterThan(0)
  }
  const { text } = await metrics.scrape()
  for (const id of [good.jobId, bad.jobId, moved.jobId, consumer.id, sandboxId!]) expect(text).not.toContain(id)
  redis.disconnect()
})
