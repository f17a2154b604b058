/** The organisation's secrets: their values go in and never come out; sandboxes get placeholders. */
import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { CreateBody } from './records.js'

const createBody = z.object({ name: z.string().regex(/^[\w-]+$/), value: z.string().min(1), description: z.string().optional(), hosts: z.array(z.string()).optional() })
const pageQuery = z.object({ name: z.string().optional(), cursor: z.string().optional(), limit: z.coerce.number().int().min(1).max(200).default(100) })

interface Secret {
  readonly id: string
  readonly name: string
  readonly value: string
  readonly placeholder: string
  readonly hosts: readonly string[]
}

export class Secrets {
  readonly #byName = new Map<string, Secret>()

  /** @returns what the API shows of it; undefined when there is one of that name. */
  add(raw: unknown): Record<string, unknown> | undefined {
    const { name, value, hosts = [] } = createBody.parse(raw)
    if (this.#byName.has(name)) return undefined
    const secret = { id: randomUUID(), name, value, placeholder: `dtn_secret_${randomUUID().replaceAll('-', '')}`, hosts }
    this.#byName.set(name, secret)
    return shown(secret)
  }

  page(raw: Record<string, string>): Record<string, unknown> {
    const { name = '', cursor = '0', limit } = pageQuery.parse(raw)
    const matching = [...this.#byName.values()].filter((each) => each.name.includes(name))
    const to = Number(cursor) + limit
    return { items: matching.slice(Number(cursor), to).map(shown), total: matching.length, nextCursor: to < matching.length ? String(to) : null }
  }

  /** The first that a create names and that there is not. */
  unknown(mounted: CreateBody['secrets'] = []): string | undefined {
    return mounted.flatMap((each) => Object.values(each)).find((name) => !this.#byName.has(name))
  }

  environment(mounted: CreateBody['secrets'] = []): Record<string, string> {
    return Object.fromEntries(this.#mounted(mounted).map(([variable, { placeholder }]) => [variable, placeholder]))
  }

  standIns(mounted: CreateBody['secrets'] = []): { standIn: string; value: string; hosts: readonly string[] }[] {
    return this.#mounted(mounted).map(([, { placeholder, value, hosts }]) => ({ standIn: placeholder, value, hosts }))
  }

  #mounted(mounted: NonNullable<CreateBody['secrets']>): (readonly [string, Secret])[] {
    return mounted.flatMap((each) => Object.entries(each)).flatMap(([variable, name]) => {
      const secret = this.#byName.get(name)
      return secret === undefined ? [] : [[variable, secret] as const]
    })
  }
}

function shown({ value: _value, ...secret }: Secret): Record<string, unknown> {
  const at = new Date(0).toISOString()
  return { ...secret, createdAt: at, updatedAt: at }
}
