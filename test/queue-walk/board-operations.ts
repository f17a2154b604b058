import { aWhile, type Operation, onJob, type Step } from './operation.js'
import type { KnownJob, Side } from './world.js'

/** What somebody does by Bull Board, as Switchyard serves it, and by the fleet's pages. */
export const boardOperations: readonly Operation[] = [
  { name: 'board: run a job again', weight: 1, does: onJob((job, step) => ofJob(job, step, 'PUT', 'retry')) },
  { name: 'board: remove a job', weight: 1, does: onJob((job, step) => ofJob(job, step, 'PUT', 'clean')) },
  { name: 'board: promote a job', weight: 0.5, does: onJob((job, step) => ofJob(job, step, 'PUT', 'promote')) },
  { name: 'board: change a priority', weight: 0.7, does: onJob((job, step) => ofJob(job, step, 'PATCH', 'priority', { priority: step.random.pick([0, 3, 900]) })) },
  { name: 'board: change a delay', weight: 0.3, does: onJob((job, step) => ofJob(job, step, 'PATCH', 'delay', { delay: step.random.pick([10, 700]) })) },
  { name: 'board: look at a job', weight: 1, does: onJob((job, step) => ofJob(job, step, 'GET', step.random.pick(['', 'logs', 'flow']))) },
  { name: 'board: look at a page', weight: 1, does: (step) => ofQueue(step, 'GET', `?activeQueue=${step.side.name}&status=${step.random.pick(['latest', 'active', 'waiting', 'prioritized', 'delayed', 'completed', 'failed', 'waiting-children', 'paused'])}&page=1`) },
  { name: 'board: run all again', weight: 0.4, does: (step) => ofQueue(step, 'PUT', `/${step.side.name}/retry/${step.random.pick(['failed', 'completed'])}`) },
  { name: 'board: promote all', weight: 0.3, does: (step) => ofQueue(step, 'PUT', `/${step.side.name}/promote`) },
  { name: 'board: clean', weight: 0.4, does: (step) => ofQueue(step, 'PUT', `/${step.side.name}/clean/${step.random.pick(['completed', 'failed', 'delayed', 'wait', 'prioritized'])}`) },
  { name: 'board: empty', weight: 0.2, does: (step) => ofQueue(step, 'PUT', `/${step.side.name}/empty`) },
  { name: 'board: pause', weight: 0.3, does: pause },
  { name: 'board: the fleet’s page', weight: 0.5, does: (step) => call(step.side, 'GET', '/fleet') },
  { name: 'board: a job’s page', weight: 1, does: onJob((job) => call(job.side, 'GET', `/fleet/jobs/${encodeURIComponent(job.jobId)}`)) },
  { name: 'board: cancel from the fleet', weight: 0.5, does: onJob((job) => call(job.side, 'POST', `/fleet/jobs/${encodeURIComponent(job.jobId)}/cancel`, '')) },
  { name: 'board: run again from the fleet', weight: 0.5, does: onJob((job) => call(job.side, 'POST', `/fleet/jobs/${encodeURIComponent(job.jobId)}/retry`, '')) },
]

async function call({ monitor }: Side, method: string, path: string, body?: object | string): Promise<string> {
  const type = typeof body === 'string' ? 'application/x-www-form-urlencoded' : 'application/json'
  const headers = { origin: 'http://board.test', ...(body === undefined ? {} : { 'content-type': type }) }
  const request = new Request(`http://board.test${path}`, { method, headers, ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }) })
  const answer = await (await monitor()).fetch(request)
  const text = await answer.text()
  // 503: Redis is away, or refuses writes, for a moment.
  if (answer.status >= 500 && answer.status !== 503) throw new TypeError(`the board answered ${answer.status} to ${method} ${path}: ${text.slice(0, 300)}`)
  return `${answer.status}`
}

function ofJob({ side, jobId }: KnownJob, _step: Step, method: string, what: string, body?: object): Promise<string> {
  return call(side, method, `/api/queues/${side.name}/${encodeURIComponent(jobId)}${what === '' ? '' : `/${what}`}`, method === 'GET' ? undefined : (body ?? {}))
}

function ofQueue({ side }: Step, method: string, what: string): Promise<string> {
  return call(side, method, `/api/queues${what}`, method === 'GET' ? undefined : {})
}

async function pause(step: Step): Promise<void> {
  await ofQueue(step, 'PUT', `/${step.side.name}/pause`)
  await aWhile(step.random)
  await ofQueue(step, 'PUT', `/${step.side.name}/resume`)
}
