import { setTimeout as pause } from 'node:timers/promises'
import type { Command } from 'commander'
import { type DeadEvent, type EventKind, eventKinds, type EventPoint, type JobEvent, type KeptEvent, kindOf, type TrimmedBehind } from '../../events/index.js'
import { InvalidInputError } from '../../job/errors.js'
import { harmlessLine } from '../../job/harmless-text.js'
import type { AgentQueue } from '../../producers/index.js'
import { exitCodes } from '../exit-codes.js'
import { idsOf, kindsOf, limitOf, pointOf } from '../event-flags.js'
import { deadTable, eventLine, groupsTable } from '../event-report.js'
import { operatorOf } from '../operator-flags.js'
import { counted } from '../output.js'
import { jsonLine, pass, print, printJson, say } from '../print.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type PointFlags = SharedFlags & { readonly after?: string; readonly since?: string }
type ReadFlags = PointFlags & { readonly follow?: boolean; readonly limit: string; readonly type?: readonly string[] }
type DeadFlags = SharedFlags & { readonly group?: string; readonly limit: string }
type RedeliverFlags = SharedFlags & { readonly group: string; readonly all?: boolean }
type ReplayFlags = PointFlags & { readonly group: string }

/** How often whoever follows looks for more. */
const lookEveryMs = 500
const eventsPerLook = 100

/** `switchyard events`: the events that are kept, the groups that read them, and what these have given up. */
export function addEventsCommand(program: Command): void {
  const events = program.command('events').description('print the events that are kept; look at and give back what readers have given up').addHelpText('after', '\nExamples:\n  switchyard events --follow\n  switchyard events dead --group billing')
  addRead(events)
  addGroups(events)
  addDead(events)
  addRedeliver(events)
  addResume(events)
  addReplay(events)
}

function addRead(events: Command): void {
  const command = withPoint(events.command('list', { isDefault: true }).description('print the events that are kept, the oldest first; no group learns of it'))
    .option('-f, --follow', 'go on with what comes, until Ctrl-C')
    .option('-n, --limit <number>', 'how many events to print at most; with --follow there is no such limit', '100')
    .option('-t, --type <types...>', `only these: ${eventKinds.join(', ')}`)
  withConfigOption(withJsonOption(command, 'a line per event, as CloudEvents,'))
  command
    .addHelpText(
      'after',
      `
Examples:
  switchyard events --since 2026-12-01T08:00:00Z
  switchyard events --type moved completed
  switchyard events --follow --json | jq -r .subject`,
    )
    .action(async (flags: ReadFlags) => {
      const limit = flags.follow === true ? Infinity : limitOf(flags.limit, 100_000)
      const from = pointOf(flags)
      const { listenForStop } = await import('../stop-signal.js')
      using stop = listenForStop()
      await withEvents(flags, (queue) => printEvents(queue, { from, limit, follow: flags.follow === true, json: flags.json === true, types: kindsOf(flags.type), signal: stop.signal }))
      if (stop.received !== undefined) process.exitCode = exitCodes.interrupted
    })
}

function addGroups(events: Command): void {
  const command = events.command('groups').description('show how each group of readers stands: unread, under way, given up, missed')
  withConfigOption(withJsonOption(command, 'the groups'))
  command.action(async (flags: SharedFlags) => {
    await withEvents(flags, async (queue) => {
      const groups = await queue.events.list()
      if (flags.json === true) printJson(groups)
      else print(groupsTable(groups))
    })
  })
}

function addDead(events: Command): void {
  const command = events
    .command('dead')
    .description('show the events that groups have given up, the oldest first')
    .option('-g, --group <name>', 'only those of this group')
    .option('-n, --limit <number>', 'how many of each group to show', '50')
  withConfigOption(withJsonOption(command, 'the dead events'))
  command
    .addHelpText(
      'after',
      `
Examples:
  switchyard events dead
  switchyard events dead --group billing --json | jq '.[].error'`,
    )
    .action(async (flags: DeadFlags) => {
      const limit = limitOf(flags.limit, 1_000)
      await withEvents(flags, async (queue) => {
        const groups = flags.group === undefined ? (await queue.events.list()).filter(({ deadLetters }) => deadLetters > 0).map(({ group }) => group) : [flags.group]
        const found: (DeadEvent & { readonly group: string })[] = []
        for (const group of groups) found.push(...(await queue.events.dead({ group, limit })).map((dead) => ({ group, ...dead })))
        if (flags.json === true) printJson(found)
        else print(deadTable(found))
      })
    })
}

function addRedeliver(events: Command): void {
  const command = events
    .command('redeliver [ids...]')
    .description('give dead events back to their group, with all their attempts before them')
    .requiredOption('-g, --group <name>', 'the group')
    .option('--all', 'all that the group has given up')
  withConfigOption(withJsonOption(command, 'what was done'))
  command
    .addHelpText(
      'after',
      `
IDs are those that "switchyard events dead" shows. One that is given back already, or that its bound has removed, is left out.

Examples:
  switchyard events redeliver --group billing 1764300000000-0
  switchyard events redeliver --group billing --all`,
    )
    .action(async (ids: readonly string[], flags: RedeliverFlags) => {
      const asked = idsOf(ids, flags)
      await withEvents(flags, async (queue) => {
        const redelivered = await queue.events.redeliver({ group: flags.group, ids: asked })
        await queue.operations.audit(operatorOf(flags), 'redeliverEvents', [flags.group], { after: { redelivered } })
        const gone = asked === 'all' ? 0 : asked.length - redelivered
        const missing = gone === 0 ? '' : `; ${gone} of ${asked.length} ${gone === 1 ? 'is' : 'are'} not among its dead events any more`
        if (flags.json === true) printJson({ group: flags.group, redelivered })
        else print(harmlessLine(`group ${flags.group}: ${counted(redelivered, 'event')} given back${missing}`))
      })
    })
}

function addResume(events: Command): void {
  const command = events.command('resume').description('send a webhook its events again that was stopped because it answered 410 (Gone)').requiredOption('-g, --group <name>', 'the group, such as webhook:billing')
  withConfigOption(withJsonOption(command, 'what was done'))
  command.action(async (flags: SharedFlags & { readonly group: string }) => {
    await withEvents(flags, async (queue) => {
      const resumed = await queue.events.resume({ group: flags.group })
      if (flags.json === true) printJson({ group: flags.group, resumed })
      else print(harmlessLine(`group ${flags.group}: ${resumed ? 'gets its events again, from where it stood' : 'was not stopped'}`))
    })
  })
}

function addReplay(events: Command): void {
  const command = withPoint(events.command('replay').description('give a group every event from a point on again, or skip to there')).requiredOption('-g, --group <name>', 'the group')
  withConfigOption(withJsonOption(command, 'what was done'))
  command
    .addHelpText(
      'after',
      `
Example:
  switchyard events replay --group billing --since 2026-12-01T08:00:00Z`,
    )
    .action(async (flags: ReplayFlags) => {
      const from = pointOf(flags)
      if (from === undefined) throw new InvalidInputError('events replay: give --since or --after, where the group is to begin')
      await withEvents(flags, async (queue) => {
        const { trimmed } = await queue.events.replay({ group: flags.group, from })
        if (flags.json === true) printJson({ group: flags.group, from, trimmed })
        else print(harmlessLine(`group ${flags.group}: gets every event from there on${trimmed === null ? '' : ` that is kept; ${trimmedText(trimmed)}`}`))
      })
    })
}

function withPoint(command: Command): Command {
  return command.option('--since <time>', 'from this time on, such as 2h (ago) or 2026-12-01T08:00:00Z').option('--after <sequence>', 'behind the event with this sequence, as --json shows it')
}

interface Reading {
  readonly from: EventPoint | undefined
  readonly limit: number
  readonly follow: boolean
  readonly json: boolean
  readonly types: readonly EventKind[]
  readonly signal: AbortSignal
}

/** Ends when all is printed; with `follow`, when it is told to. */
async function printEvents(queue: AgentQueue, { from, limit, follow, json, types, signal }: Reading): Promise<void> {
  let point = from
  const trimmed = from === undefined ? null : await queue.events.trimmed({ from })
  if (trimmed !== null) say(`switchyard: ${trimmedText(trimmed)}`)
  for (let left = limit; left > 0 && !signal.aborted; ) {
    const found = await queue.events.read({ from: point, limit: eventsPerLook, types: eventKinds })
    const wanted = found.filter(({ event }) => event === null || types.includes(kindOf(event))).slice(0, left)
    for (const each of wanted) await pass(process.stdout, `${json ? jsonOf(each) : eventLine(each)}\n`)
    left -= wanted.length
    const last = found.at(-1)
    if (last !== undefined) point = { after: last.sequence }
    else if (!follow) return
    else await pause(lookEveryMs, undefined, { signal }).catch(() => undefined)
  }
}

function trimmedText({ atMost, firstKept }: TrimmedBehind): string {
  return `up to ${counted(atMost, 'event')} from there on ${atMost === 1 ? 'is' : 'are'} gone: ${firstKept === null ? 'none is kept' : `the first that is kept is ${firstKept}`}; to keep more, raise consumer.events`
}

/** What can't be read is shown as it is. */
function jsonOf({ event, sequence, json }: KeptEvent<JobEvent>): string {
  return jsonLine(event ?? { sequence, unreadable: json })
}

async function withEvents(flags: SharedFlags, work: (queue: AgentQueue) => Promise<void>): Promise<void> {
  const { withQueue } = await import('../open-queue.js')
  await withQueue(flags, work)
}
