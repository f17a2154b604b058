import { pino, type Logger } from 'pino'
import { z } from 'zod'
import { SwitchyardError } from '../../src/job/errors.js'

/** What consumers say of ways that are cut, and of leases that others have taken meanwhile, is as it should be. */
const expected = /ECONN|EPIPE|connection|redis|closed|ended|lease/i
const warning = 40
const lineSchema = z.looseObject({ level: z.number(), msg: z.string().default(''), message: z.string().default('') })

/** What happens in a walk, for its trace; and what was thrown that should not have been. */
export class Journal {
  readonly lines: string[] = []
  /** What consumers warned of, without ids, and how often. */
  readonly warnings = new Map<string, number>()
  readonly faults: string[] = []
  readonly log: Logger
  private readonly beganAtMs = Date.now()

  constructor() {
    this.log = pino({ level: 'debug' }, { write: (line: string) => this.hear(line) })
  }

  note(...what: readonly unknown[]): void {
    this.lines.push(`${Date.now() - this.beganAtMs} ${what.map((each) => (typeof each === 'string' ? each : JSON.stringify(each))).join(' ')}`)
  }

  /** Notes what an operation threw. Most refuse what can't be done to a job as it stands; a script that breaks or a program's own error is a fault. */
  threw(operation: string, error: unknown): void {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
    this.note('threw', operation, text.slice(0, 200))
    if (error instanceof SwitchyardError) return
    // Redis refuses writes now and then.
    if (/\b(OOM|NOREPLICAS|EXECABORT|LOADING)\b/.test(text)) return
    const broken = error instanceof TypeError || error instanceof RangeError || /\bERR |user_script|WRONGTYPE/.test(text)
    if (broken) this.faults.push(`${operation} threw ${error instanceof Error ? (error.stack ?? text) : text}`)
  }

  private hear(line: string): void {
    this.lines.push(line.trim())
    const { level, msg, message } = lineSchema.parse(JSON.parse(line))
    const text = `${msg}: ${message}`.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID').slice(0, 300)
    if (level >= warning && !expected.test(text)) this.warnings.set(text, (this.warnings.get(text) ?? 0) + 1)
  }
}
