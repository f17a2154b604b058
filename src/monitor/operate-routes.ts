import { Hono, type Context } from 'hono'
import { z } from 'zod'
import { InvalidInputError } from '../job/errors.js'
import type { BoardOperator, Changed, MonitoredOperations, Said } from './source.js'

/**
 * What operators do from the fleet's page, a form's button each: the same functions as the command line's and the API's. What is done to, and why, stands
 * in the form and not in the address, where a tenant's name could lead elsewhere.
 */
interface Operation {
  readonly act: (operations: MonitoredOperations, of: string, said: Said) => Promise<Changed>
  /** What the page says when it is done, and when it was so before. */
  readonly done: string
  readonly before: string
}

const operations = {
  pauseQueue: { act: (to, _of, said) => to.pauseQueue(said), done: 'The queue is paused: no job is begun until it is resumed; those that run go on.', before: 'The queue was paused before; nothing was done.' },
  resumeQueue: { act: (to, _of, said) => to.resumeQueue(said), done: 'The queue is resumed.', before: 'The queue was not paused; nothing was done.' },
  drainProvider: { act: (to, of, said) => to.drainProvider(of, said), done: 'The provider gets no new sandboxes until it is resumed; what runs there goes on.', before: 'The provider was drained before; nothing was done.' },
  resumeProvider: { act: (to, of, said) => to.resumeProvider(of, said), done: 'The provider gets sandboxes again.', before: 'The provider was not drained; nothing was done.' },
  pauseTenant: { act: (to, of, said) => to.pauseTenant(of, said), done: 'None of the tenant’s waiting jobs is begun until it is resumed; those that run go on.', before: 'The tenant was paused before; nothing was done.' },
  resumeTenant: { act: (to, of, said) => to.resumeTenant(of, said), done: 'The tenant’s jobs are begun again.', before: 'The tenant was not paused; nothing was done.' },
} as const satisfies Readonly<Record<string, Operation>>

export type OperationName = keyof typeof operations

const formSchema = z.object({ of: z.string().max(300).default(''), reason: z.string().trim().max(200, 'is longer than 200 characters').default('') })

export interface OperateRoutesOptions {
  readonly to: MonitoredOperations
  readonly base: string
  readonly operatorFor: (context: Context) => BoardOperator
  /** Called once something has changed: what is shown is older. */
  readonly onDone: () => void
}

/** `POST /fleet/operate/NAME`, for each of them. */
export function operateRoutes({ to, base, operatorFor, onDone }: OperateRoutesOptions): Hono {
  const app = new Hono()
  for (const [name, { act }] of Object.entries(operations)) {
    app.post(`/fleet/operate/${name}`, async (context) => {
      const form = formSchema.safeParse(Object.fromEntries(new URLSearchParams(await context.req.text())))
      if (!form.success) throw new InvalidInputError(form.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '))
      const { of, reason } = form.data
      const { changed, ignoredBy } = await act(to, of, { by: operatorFor(context), ...(reason === '' ? {} : { reason }) })
      onDone()
      return context.redirect(`${base}/fleet?said=${name}${changed ? '' : '-before'}${ignoredBy.length === 0 ? '' : `&ignored=${ignoredBy.length}`}`, 303)
    })
  }
  return app
}

/** What the page says after an operation, by what stands in its address: sentences of ours and a number, whoever made the link. */
export function operated(said: string | undefined, ignored: string | undefined): string | null {
  const [name = '', before] = (said ?? '').split('-')
  if (!Object.hasOwn(operations, name)) return null
  const operation = operations[name as OperationName]
  const count = /^\d{1,6}$/.test(ignored ?? '') ? Number(ignored) : 0
  const unheeded = count === 0 ? '' : ` Consumers of an earlier release that do not heed it: ${count}.`
  return `${before === 'before' ? operation.before : operation.done}${unheeded}`
}
