import { exitCodes, type ExitCode } from '../exit-codes.js'
import { harmlessValue } from '../../job/harmless-text.js'
import { counted, elapsed } from '../output.js'
import type { CheckResult } from './check-result.js'

/** How the checks look on a terminal, and what they mean for the exit code. Pure functions. */

const checkWidth = 'delete branch'.length
const outcomeWidth = 'interrupted'.length
const timeWidth = 6

/** The header of the table, for subjects with these names. */
export function header(names: readonly string[]): string {
  return line(names, 'SUBJECT', 'CHECK', 'RESULT', 'TIME', '')
}

/** The rows of one subject; a failed one has its mend on a line of its own. */
export function rows(names: readonly string[], results: readonly CheckResult[]): string {
  return harmlessValue(results)
    .flatMap(({ name, check, outcome, durationMs, detail, mend }) => [
      line(names, name, check, outcome === 'failed' ? 'FAILED' : outcome, outcome === 'skipped' ? '-' : time(durationMs), detail),
      ...(mend === null ? [] : [line(names, '', '', '', '', `mend: ${mend}`)]),
    ])
    .join('\n')
}

function time(durationMs: number): string {
  return durationMs < 1000 ? `${durationMs}ms` : elapsed(durationMs)
}

function line(names: readonly string[], name: string, check: string, outcome: string, time: string, detail: string): string {
  const nameWidth = Math.max('SUBJECT'.length, ...names.map((each) => each.length))
  return `${name.padEnd(nameWidth)}  ${check.padEnd(checkWidth)}  ${outcome.padEnd(outcomeWidth)}  ${time.padStart(timeWidth)}  ${detail}`.trimEnd()
}

/** The last line. */
export function summary(results: readonly CheckResult[]): string {
  const count = (outcome: CheckResult['outcome']) => results.filter((result) => result.outcome === outcome).length
  const failed = count('failed')
  const parts = [`${counted(count('ok') + count('warning'), 'check')} passed`, ...(count('warning') > 0 ? [`${count('warning')} of them with a warning`] : []), ...(count('interrupted') > 0 ? ['interrupted'] : [])]
  return `${parts.join(', ')}, ${failed === 0 ? 'none failed' : `${failed} failed`}`
}

/** Interrupted, or all well, or only things to correct in the configuration, or something that can't be used now. */
export function exitCodeOf(results: readonly CheckResult[], interrupted: boolean): ExitCode {
  if (interrupted) return exitCodes.interrupted
  const failed = results.filter(({ outcome }) => outcome === 'failed')
  if (failed.length === 0) return exitCodes.ok
  if (failed.some(({ errorKind }) => errorKind === 'internal')) return exitCodes.internal
  return failed.every(({ errorKind }) => errorKind === 'invalid') ? exitCodes.badInput : exitCodes.unavailable
}
