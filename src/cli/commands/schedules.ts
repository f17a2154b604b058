import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import { harmlessLine, harmlessValue } from '../../job/harmless-text.js'
import type { ScheduleInput } from '../../job/schedule.js'
import type { AgentQueue, Schedule } from '../../producers/index.js'
import { table } from '../output.js'
import { print, printJson } from '../print.js'
import { collect, withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'
import { readSpecFile, specFromFlags, type SpecFlags } from '../spec-from-flags.js'

type UpsertFlags = SharedFlags & Pick<SpecFlags, 'file' | 'repository' | 'ref' | 'step' | 'push' | 'message' | 'promote' | 'tenant' | 'timeout' | 'secret'> & {
  readonly cron?: string
  readonly every?: string
  readonly timezone?: string
  readonly missed?: string
  readonly overlap?: string
}

/** `switchyard schedules`: lists schedules, makes, pauses, resumes and removes them. */
export function addSchedulesCommand(program: Command): void {
  const schedules = program.command('schedules').description('list the schedules, or make, pause, resume or remove one')
  withConfigOption(withJsonOption(schedules, 'the schedules'))
  schedules
    .addHelpText(
      'after',
      `
Examples:
  switchyard schedules
  switchyard schedules upsert nightly --cron '0 3 * * *' --timezone Europe/Berlin -r acme/web -s './agent update'
  switchyard schedules upsert nightly --file schedule.json
  switchyard schedules pause nightly`,
    )
    .action(async (flags: SharedFlags) => {
      await withQueueOf(flags, async (queue) => printSchedules(flags, await queue.schedules.list(), (found) => scheduleTable(found, Date.now())))
    })

  withJsonOption(schedules.command('upsert <id>').description('make a schedule, or change the one that has this id'), 'the schedule')
    .option('--cron <expression>', 'when: five fields such as "0 8 * * 1-5", or six with seconds first')
    .option('--every <duration>', 'or how often, such as 15m')
    .option('--timezone <zone>', 'whose clock cron goes by, such as Europe/Berlin (default: UTC)')
    .option('--missed <skip|once|all>', 'what becomes of runs whose time went by: none (the default), one for all, or each is run')
    .option('--overlap <skip|allow|replace>', 'what becomes of a run whose predecessor has not ended: it is not begun (the default), begun too, or replaces it')
    .option('-f, --file <file>', 'a schedule as JSON, its job under "job"; - for stdin. Options are laid over it')
    .option('-r, --repository <id>', 'the repository at the git host, such as acme/web')
    .option('--ref <ref>', 'the branch, tag or sha to start from (default: the default branch)')
    .option('-s, --step <command>', 'a command to run; may be given several times', collect)
    .option('--secret <NAME>', 'a variable whose value the consumers have; may be given several times', collect)
    .option('-m, --message <text>', 'the message of the commit')
    .option('--no-push', 'push nothing; the sandbox gets read access only')
    .option('-p, --promote <branch>', 'the branch to move to the result')
    .option('--timeout <duration>', 'how long a job may run, such as 40m (default: 1h)')
    .option('--tenant <name>', 'whose jobs these are')
    .action(async (id: string, flags: UpsertFlags, command: Command) => {
      const file = flags.file === undefined ? {} : await readSpecFile(flags.file)
      const shared = command.optsWithGlobals<UpsertFlags>()
      await withQueueOf(shared, async (queue) => printSchedules(shared, await queue.schedules.upsert(id, inputFrom(flags, file)), (found) => scheduleTable([found], Date.now())))
    })

  for (const [name, said, description] of [
    ['pause', 'is paused', 'begin no more runs until it is resumed'],
    ['resume', 'goes on', 'go on; what was missed is seen to as the schedule says'],
    ['remove', 'is removed', 'remove it; its runs under way go on'],
  ] as const) {
    schedules
      .command(`${name} <id>`)
      .description(description)
      .action(async (id: string, _flags: object, command: Command) => {
        const shared = command.optsWithGlobals<SharedFlags>()
        await withQueueOf(shared, async (queue) => {
          await queue.schedules[name](id)
          if (shared.json === true) printJson({ id, done: name })
          else print(`schedule ${harmlessLine(id)}: ${said}`)
        })
      })
  }
}

/** Nothing that was typed is a schedule before the queue has checked it. */
function inputFrom(flags: UpsertFlags, file: unknown): ScheduleInput {
  if (typeof file !== 'object' || file === null || Array.isArray(file)) throw new InvalidInputError('--file: must hold one JSON object, a schedule, with its job under "job"')
  const { cron, every, timezone, missed, overlap } = flags
  const given = Object.fromEntries(Object.entries({ cron, every, timezone, missed, overlap }).filter(([, value]) => value !== undefined))
  // The other way of saying when gives way.
  const instead = cron !== undefined ? ['every'] : every !== undefined ? ['cron', 'timezone'] : []
  const before = Object.fromEntries(Object.entries(file).filter(([field]) => !instead.includes(field)))
  const job = specFromFlags(flags, before['job'] ?? {})
  return { ...before, ...given, job } as unknown as ScheduleInput
}

async function withQueueOf(flags: SharedFlags, work: (queue: AgentQueue) => Promise<void>): Promise<void> {
  const { withQueue } = await import('../open-queue.js')
  await withQueue(flags, work)
}

function printSchedules<Found extends Schedule | Schedule[]>(flags: SharedFlags, found: Found, text: (found: Found) => string): void {
  if (flags.json === true) printJson(found)
  else print(text(found))
}

/** A line for each, and one more for what was not begun last. */
export function scheduleTable(found: readonly Schedule[], nowMs: number): string {
  const schedules = harmlessValue(found)
  if (schedules.length === 0) return 'there are no schedules'
  const rows = schedules.map(({ id, cron, timezone, everyMs, paused, nextRunAt, last }) => [
    id,
    cron === null ? `every ${(everyMs ?? 0) / 1000}s` : `${cron} (${timezone ?? 'UTC'})`,
    paused ? 'paused' : nextRunAt === null ? 'never' : `${short(nextRunAt)}${Date.parse(nextRunAt) < nowMs ? ' (due)' : ''}`,
    last === null ? '' : short(last.scheduledAt),
    last?.jobId ?? '',
    last === null ? '' : (last.result?.status ?? 'not ended'),
  ])
  const notes = schedules.flatMap(({ id, skipped }) => (skipped === null ? [] : [`${id}: not begun at ${short(skipped.scheduledAt)}: ${skipped.why}`]))
  return [table(['SCHEDULE', 'WHEN', 'NEXT', 'LAST', 'JOB', 'RESULT'], rows), ...notes].join('\n')
}

function short(instant: string): string {
  return `${instant.slice(0, 19)}Z`
}
