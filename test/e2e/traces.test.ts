import { context, trace } from '@opentelemetry/api'
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startDeployment, until, type Deployment } from './deployment.js'

let deployment: Deployment
beforeAll(async () => {
  deployment = await startDeployment({ limits: [2] })
  await deployment.seed('acme/web', { 'README.md': 'hello\n' })
}, 300_000)
afterAll(async () => {
  await deployment.close()
  trace.disable()
  context.disable()
})

it('makes one trace from the producer to the push, through a hand-over, which a step’s own spans join', { timeout: 240_000 }, async () => {
  const exporter = new InMemorySpanExporter()
  new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register()
  const first = await deployment.startConsumer()
  const wait = { timeoutMs: 150_000 }
  const job = await trace.getTracer('app').startActiveSpan('request', async (span) => {
    const enqueued = await deployment.queue.enqueue({
      repository: 'acme/web',
      steps: [{ name: 'agent', run: 'echo "joins $TRACEPARENT"; while [ ! -e "$HOME/go" ]; do sleep 0.1; done; echo x > x.txt' }, 'echo "then $TRACEPARENT"'],
      promote: { to: 'traced', strategy: 'merge' },
    })
    span.end()
    return enqueued
  })
  const output = async () => {
    let text = ''
    for await (const line of job.logs({ follow: false })) text += line.text
    return text
  }
  await until('the step to print', async () => (await output()).includes('joins 00-'), 90_000)
  await deployment.startConsumer()
  await first.stop()
  const { sandboxId } = await job.status()
  await deployment.providers[0]!.exec(sandboxId!, { script: ': > "$HOME/go"' }, { timeoutMs: 20_000 })
  expect(await job.result(wait)).toMatchObject({ status: 'succeeded', attempts: [{ outcome: 'succeeded' }] })
  await until('the job’s span to end', () => exporter.getFinishedSpans().filter(({ name }) => name === 'RUN agents').length === 2)

  const spans = exporter.getFinishedSpans()
  const ours = spans.filter(({ name }) => name !== 'request')
  const { traceId } = spans.find(({ name }) => name === 'request')!.spanContext()
  expect(new Set(spans.map((span) => span.spanContext().traceId))).toEqual(new Set([traceId]))
  const names = new Set(ours.map(({ name }) => name))
  for (const name of ['enqueue agents', 'wait', 'RUN agents', 'attempt', 'create', 'clone', 'step', 'checkpoint', 'push', 'promote']) expect([...names]).toContain(name)
  const [given, taken] = ours.filter(({ name }) => name === 'RUN agents')
  expect(given?.attributes['switchyard.handed_over']).toBe(true)
  expect(taken?.links.map((link) => link.context.spanId)).toEqual([given?.spanContext().spanId])
  expect(taken?.attributes).toMatchObject({ 'cicd.pipeline.result': 'success', 'cicd.pipeline.run.id': job.jobId })

  // What an agent would take for its parent is the span of its step.
  const text = await output()
  const steps = ours.filter(({ name }) => name === 'step').map((span) => `00-${traceId}-${span.spanContext().spanId}-01`)
  expect(steps).toContain(/joins (\S+)/.exec(text)?.[1])
  expect(steps).toContain(/then (\S+)/.exec(text)?.[1])
})
