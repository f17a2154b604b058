import { eventKinds, type JobEvent, subscribe, type Subscription } from '../../src/events/index.js'
import type { Random } from '../chaos/random.js'
import type { Journal } from './journal.js'

/** As application code does: of what it is told some fails, and its processes come and go. */
export const groupNames = ['g0', 'g1'] as const
type GroupName = (typeof groupNames)[number]

interface Reader {
  readonly subscription: Subscription
  /** Handlers under way fail as its process dies. */
  alive: boolean
}

interface Handled {
  readonly id: string
  readonly sequence: string
}

/** The job's id among all queues, with its run. An event's id begins with it, and a job's own may have dots. */
export function runOf({ id }: { readonly id: string }): string {
  return id.replace(/\.(?:enqueued|started\.\d+|moved\.\d+|step\.\d+\.\d+|checkpoint\.\d+\.\w+|parked\.\d+\.\d+|promoted)$/, '')
}

/** So many of the deliveries fail. */
const failing = 0.15

/** The groups that read a walk's events, and what each has handled. */
export class Groups {
  /** By group and run, what was handled, in its order. */
  readonly handled = new Map<GroupName, Map<string, Handled[]>>(groupNames.map((name) => [name, new Map()]))
  private readonly readers = new Map<GroupName, Reader[]>(groupNames.map((name) => [name, []]))
  private healthy = false

  constructor(
    private readonly redisUrl: string,
    private readonly journal: Journal,
    private readonly random: Random,
  ) {}

  start(name: GroupName): void {
    const reader = { alive: true }
    const subscription = subscribe({ url: this.redisUrl }, name, (event) => this.handle(name, reader, event), {
      types: eventKinds,
      concurrency: 5,
      redeliverAfterMs: 500,
      attempts: 1_000,
      backoffMs: 20,
      maxBackoffMs: 200,
      onError: () => undefined,
    })
    this.readers.get(name)?.push(Object.assign(reader, { subscription }))
  }

  /** One comes, or goes: as a process that is told to, with its handlers still under way. */
  async change(random: Random): Promise<string> {
    const name = random.pick(groupNames)
    const readers = this.readers.get(name) ?? []
    const leaving = random.chance(0.5) ? readers.shift() : undefined
    if (leaving === undefined) {
      if (readers.length < 3) this.start(name)
      return `${name} reads on`
    }
    leaving.alive = false
    await leaving.subscription.close()
    return `a reader of ${name} left`
  }

  /** From here on all goes well. */
  settle(): void {
    this.healthy = true
    for (const name of groupNames) if ((this.readers.get(name) ?? []).length === 0) this.start(name)
  }

  /** Redis has lost all that they were told. */
  forget(): void {
    for (const subjects of this.handled.values()) subjects.clear()
  }

  async close(): Promise<void> {
    await Promise.all([...this.readers.values()].flat().map(({ subscription }) => subscription.close()))
  }

  private async handle(name: GroupName, reader: { alive: boolean }, event: JobEvent): Promise<void> {
    await new Promise((passed) => setTimeout(passed, this.healthy ? 0 : this.random.whole(0, 30)))
    if (!this.healthy && (!reader.alive || this.random.chance(failing))) throw new Error('the walk wants it to fail')
    const subjects = this.handled.get(name)
    const run = runOf(event)
    subjects?.set(run, [...(subjects.get(run) ?? []), { id: event.id, sequence: event.sequence ?? '' }])
    this.journal.note('group', name, event.id, event.sequence)
  }
}
