/**
 * A small sandbox service of nobody's, for the adapter that docs/providers.md shows: HTTP and JSON, a key, sandboxes with names, tags
 * and lifetimes, and short commands that really run. The document holds the whole of its interface.
 *
 * Refusals are `{ code }`: 401 `bad_key`, 404 `no_such_sandbox` or `no_such_image`, 400 `no_such_folder`, 429 `full` (no more sandboxes) or
 * `slow_down` (too many calls; with Retry-After).
 */
import { constants } from 'node:os'
import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { serve, type ServerType } from '@hono/node-server'
import { Hono } from 'hono'
import { z } from 'zod'
import { bestPlaces } from './bubblewrap-places.js'
import { SandboxHost, type HostedSandbox } from './sandbox-host.js'

export interface CommandService {
  readonly url: string
  readonly key: string
  /** What the next creates are refused with. */
  refuseCreates: 'full' | 'slow_down' | undefined
  close(): Promise<void>
}

const pageSize = 3
const createBody = z.strictObject({ name: z.string(), tags: z.record(z.string(), z.string()), image: z.string(), lifetimeMs: z.int().positive() })
const commandBody = z.strictObject({ script: z.string(), env: z.record(z.string(), z.string()), cwd: z.string().nullable() })
type Details = z.output<typeof createBody>

export async function startCommandService(maxSandboxes = 30): Promise<CommandService> {
  const key = randomBytes(8).toString('hex')
  const host = new SandboxHost<Details>(await bestPlaces())
  const app = new Hono()
  const names = new Map<string, Promise<HostedSandbox<Details>>>()
  const shown = ({ id, details, createdAtMs, expiresAtMs }: HostedSandbox<Details>) => ({ id, name: details.name, tags: details.tags, createdAtMs, expiresAtMs })

  app.use(async (context, next) => {
    if (context.req.header('authorization') !== `Bearer ${key}`) return context.json({ code: 'bad_key' }, 401)
    return next()
  })
  app.post('/sandboxes', async (context) => {
    const details = createBody.parse(await context.req.json())
    if (service.refuseCreates === 'slow_down') return context.json({ code: 'slow_down' }, 429, { 'retry-after': '2' })
    if (details.image !== 'standard') return context.json({ code: 'no_such_image' }, 404)
    const existing = await names.get(details.name)
    if (existing !== undefined && host.get(existing.id) !== undefined) return context.json(shown(existing))
    if (service.refuseCreates === 'full' || host.occupied >= maxSandboxes) return context.json({ code: 'full' }, 429)
    const id = randomBytes(8).toString('hex')
    const made = host.create({ id, details, lifetimeMs: details.lifetimeMs, onEnd: () => names.delete(details.name) })
    names.set(details.name, made)
    return context.json(shown(await made), 201)
  })
  app.get('/sandboxes', (context) => {
    const tags = new URL(context.req.url).searchParams.getAll('tag')
    const found = host.list().filter(({ details }) => tags.every((tag) => `${tag.slice(0, tag.indexOf('='))}=${details.tags[tag.slice(0, tag.indexOf('='))] ?? ''}` === tag))
    const start = Number(context.req.query('page') ?? 0) * pageSize
    const next = start + pageSize < found.length ? start / pageSize + 1 : null
    return context.json({ sandboxes: found.slice(start, start + pageSize).map(shown), next })
  })
  app.use('/sandboxes/:id/*', async (context, next) => (host.get(context.req.param('id')) === undefined ? context.json({ code: 'no_such_sandbox' }, 404) : next()))
  app.get('/sandboxes/:id', (context) => {
    const sandbox = host.get(context.req.param('id'))
    return sandbox === undefined ? context.json({ code: 'no_such_sandbox' }, 404) : context.json(shown(sandbox))
  })
  app.delete('/sandboxes/:id', async (context) => {
    const killed = await host.destroy(context.req.param('id'), 'killed')
    return killed ? context.body(null, 204) : context.json({ code: 'no_such_sandbox' }, 404)
  })
  app.put('/sandboxes/:id/lifetime', async (context) => {
    host.setLifetime(context.req.param('id'), z.strictObject({ lifetimeMs: z.int().positive() }).parse(await context.req.json()).lifetimeMs)
    return context.body(null, 204)
  })
  app.post('/sandboxes/:id/commands', async (context) => {
    const { script, env, cwd } = commandBody.parse(await context.req.json())
    const id = context.req.param('id')
    const child = await host.exec(id, { file: '/bin/sh', args: ['-c', script], env, cwd: cwd ?? undefined }).catch(() => undefined)
    if (child === undefined) return context.json(host.get(id) === undefined ? { code: 'no_such_sandbox' } : { code: 'no_such_folder' }, host.get(id) === undefined ? 404 : 400)
    context.req.raw.signal.addEventListener('abort', () => child.kill('SIGKILL', true))
    child.stderr.resume()
    const chunks: Buffer[] = []
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) chunks.push(chunk)
    const { exitCode, signal } = await child.ended
    if (host.get(id) === undefined) return context.json({ code: 'no_such_sandbox' }, 404)
    return context.json({ exitCode: signal === null ? exitCode : 128 + constants.signals[signal], stdout: Buffer.concat(chunks).toString() })
  })

  const server = await new Promise<ServerType>((resolve) => {
    const started = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, () => resolve(started))
  })
  const service: CommandService = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    key,
    refuseCreates: undefined,
    close: async () => {
      await host.close()
      if ('closeAllConnections' in server) server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return service
}
