import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { parseDuration } from '../job/duration.js'
import { InvalidInputError } from '../job/errors.js'
import { harmlessLine } from '../job/harmless-text.js'
import type { Change, OperateOptions, Operator } from '../producers/index.js'
import { counted } from './output.js'
import { print, printJson } from './print.js'
import { withConfigOption, withJsonOption, type SharedFlags } from './shared-options.js'

/** What the commands of operators have in common: who says it, why, and for how long. */
export interface OperatorFlags extends SharedFlags {
  readonly by?: string
  readonly reason?: string
  readonly for?: string
}

/** @param say whether a reason, and a time, can be given with it. */
export function withOperatorOptions(command: Command, say: { readonly reason?: boolean; readonly time?: boolean } = {}): Command {
  if (say.reason === true) command.option('--reason <text>', 'why, shown wherever a job waits because of it')
  if (say.time === true) command.option('--for <duration>', 'after how long it is over by itself, such as 2h (default: when it is taken back)')
  command.option('--by <name>', 'who you are, for the audit log and for those who wait (default: $SWITCHYARD_OPERATOR, or the name of your account)')
  return withConfigOption(withJsonOption(command, 'what was done'))
}

/** Who runs the command. */
export function operatorOf({ by }: OperatorFlags): Operator {
  const named = by ?? process.env['SWITCHYARD_OPERATOR']
  return { id: 'operator', name: named === undefined || named === '' ? accountName() : named }
}

function accountName(): string {
  try {
    return userInfo().username
  } catch {
    // A container's user may have no name.
    return ''
  }
}

/** @throws InvalidInputError for what is no duration. */
export function operateOptionsOf(flags: OperatorFlags): OperateOptions {
  const forMs = flags.for === undefined ? undefined : parseDuration(flags.for)
  if (flags.for !== undefined && forMs === undefined) throw new InvalidInputError(`--for: "${flags.for}" is not a duration; write a number and a unit, such as "2h"`)
  return { by: operatorOf(flags), reason: flags.reason, forMs }
}

/** Says what an operation did. @param text in words, without what is not heeded. */
export function reportChange(flags: SharedFlags, about: Readonly<Record<string, unknown>>, change: Change<unknown>, text: string): void {
  if (flags.json === true) printJson({ ...about, ...change })
  else print([harmlessLine(text), ...ignoredLines(change)].join('\n'))
}

function ignoredLines({ ignoredBy }: Pick<Change<unknown>, 'ignoredBy'>): string[] {
  if (ignoredBy.length === 0) return []
  return [harmlessLine(`not heeded by ${counted(ignoredBy.length, 'consumer')} of an earlier release, which ${ignoredBy.length === 1 ? 'goes' : 'go'} on as before until replaced: ${ignoredBy.join(', ')}`)]
}
