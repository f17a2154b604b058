import type { LogChunk } from '../../job/log.js'
import type { StepResult } from '../../job/result.js'
import type { Step } from '../../job/spec.js'
import type { OutputSlice } from '../../runner/runner.js'
import { StreamRedactor } from '../output/redaction.js'
import { pause } from './pause.js'
import { measured } from '../measured.js'
import type { RunContext } from '../run-context.js'
import type { PlannedMove } from './planned-move.js'
import { OutputTail } from '../output/output-tail.js'

/**
 * Runs one command in the sandbox to its end, from wherever it stands: not started, running since before this consumer took
 * over, or ended already.
 *
 *   start ──► reading ──► ended            the exit code is there and all output was read
 *                │ ├────► timed out        the step's own time is up: stopped, output so far kept
 *                │ └────► moved            its sandbox ends soon: stopped; whatever exit code it has then is not its own
 *                └──────► interrupted      cancel, job timeout or hand-over: `ctx.work` aborts and the call throws
 *
 * Output goes to the log stream in the same Redis call that moves the record's offsets, so a successor goes on at exactly
 * the next byte. The offsets count what was shown, not what was read: bytes that a redactor holds back are read again.
 */
export type CommandEnd =
  | { readonly kind: 'exited'; readonly result: StepResult & { readonly exitCode: number } }
  | { readonly kind: 'timed-out'; readonly result: StepResult }
  /** Stopped, to go on in another sandbox. */
  | { readonly kind: 'moved' }

export interface CommandRun {
  readonly step: Step
  /** Whether it goes on from what an earlier sandbox's run of it remembered: then `resume` is run, where the step has one. */
  readonly resumes: boolean
  /** Unique in the run. */
  readonly key: string
  /**
   * Called between reads, at most when due; for checkpoints. It is to be over by `untilMs`, when the step's own time is up. Returns when it
   * wants to be called again, or null.
   */
  readonly periodic: ((untilMs: number) => Promise<number | null>) | null
  readonly firstPeriodicAtMs: number | null
  /** Asked between reads whether the step is to leave its sandbox; null for a command that can't. */
  readonly move: Pick<PlannedMove, 'waitMs' | 'isDue' | 'graceMs'> | null
}

const idleReadMs = 100
/** How long the end of a line that might begin a secret waits for what follows. */
const lineWaitMs = 1_000

const streams = ['stdout', 'stderr'] as const
type StreamName = (typeof streams)[number]

interface StreamState {
  readonly redactor: StreamRedactor
  readonly tail: OutputTail
  /** Next byte to read. */
  readOffset: number
  /** Next byte to show. */
  shownOffset: number
  /** Bytes at the start of what is read next that serve only to warm up tail and redactor. */
  warmUp: number
}

export async function runCommand(ctx: RunContext, run: CommandRun): Promise<CommandEnd> {
  const kind = run.key.startsWith('setup-') ? 'setup' : 'step'
  return await measured(
    ctx,
    { metric: 'switchyard.step.duration', span: 'step', attributes: { 'cicd.pipeline.task.name': run.step.name, 'cicd.pipeline.task.type': kind, 'cicd.pipeline.task.run.id': run.key }, labels: (outcome) => [kind, outcome], outcomeOf, secondsOf: (end) => (end.kind === 'moved' ? undefined : end.result.durationMs / 1000) },
    () => runToEnd(ctx, run),
  )
}

function outcomeOf(end: CommandEnd): string {
  if (end.kind === 'exited') return end.result.exitCode === 0 ? 'ok' : 'failed'
  return end.kind === 'timed-out' ? 'timeout' : 'moved'
}

async function runToEnd(ctx: RunContext, run: CommandRun): Promise<CommandEnd> {
  const { settings, now } = ctx.shared
  const { runner, secrets } = ctx.sandbox()

  const resumed = ctx.record.running?.key === run.key ? ctx.record.running : null
  let running = resumed ?? { key: run.key, startedAtMs: now(), stdoutOffset: 0, stderrOffset: 0, timedOut: false }
  if (resumed === null) await ctx.update({ running })
  const { step } = run
  const { short } = ctx.secrets
  if (resumed === null && short.length > 0) await ctx.sayOnce(`${short.join(', ')}: too short to be masked in output other than as whole words; use values of at least 8 characters`)
  const resume = run.resumes ? step.resume : undefined
  const own = { SWITCHYARD_ATTEMPT: String(ctx.record.attempts.length), ...(resume === undefined ? {} : { SWITCHYARD_RESUMED: '1' }) }
  const command = { key: run.key, run: resume ?? step.run, cwd: step.cwd, env: { ...ctx.trace.environment, ...ctx.spec.env, ...step.env, ...ctx.secrets.env, ...secrets.env, ...own } }
  if (resumed === null && resume !== undefined) await ctx.say(`${step.name} is resumed: what it has under checkpoint.paths came along`)
  const state: Record<StreamName, StreamState> = { stdout: startStream(ctx, running.stdoutOffset), stderr: startStream(ctx, running.stderrOffset) }
  const deadlineMs = run.step.timeoutMs === undefined ? Infinity : running.startedAtMs + run.step.timeoutMs
  let periodicAtMs = run.firstPeriodicAtMs ?? Infinity

  for (let started = false; ; started = true) {
    const lineMs = streams.some((name) => state[name].redactor.canRelease) ? lineWaitMs : Infinity
    const waitMs = Math.max(0, Math.min(settings.readWaitMs, lineMs, deadlineMs - now(), periodicAtMs - now(), run.move?.waitMs ?? Infinity))
    const read = { stdoutOffset: state.stdout.readOffset, stderrOffset: state.stderr.readOffset, waitMs, maxBytes: settings.readBytes }
    const call = { timeoutMs: waitMs + settings.callTimeoutMs, signal: ctx.work }
    const askedAtMs = now()
    const slice = started ? await runner.read(run.key, read, call) : await runner.start(command, call, read)
    // A start that is repeated is none: it answers whether the command goes on or not.
    if (started) await ctx.progress()
    const exitCode = isDrained(state, slice) ? slice.exitCode : null
    const chunks = streams.flatMap((name) => take(ctx, run.step.name, name, state[name], slice, exitCode !== null))
    if (chunks.length > 0) {
      running = { ...running, stdoutOffset: state.stdout.shownOffset, stderrOffset: state.stderr.shownOffset }
      await ctx.append({ running }, chunks)
    }
    const result = (code: number | null): StepResult => ({
      name: run.step.name,
      exitCode: code,
      durationMs: Math.max(0, now() - running.startedAtMs),
      stdoutTail: state.stdout.tail.text(),
      stderrTail: state.stderr.tail.text(),
    })
    if (exitCode !== null && running.timedOut) return { kind: 'timed-out', result: result(null) }
    if (exitCode !== null && running.moved === true) return { kind: 'moved' }
    if (exitCode !== null) return { kind: 'exited', result: { ...result(exitCode), exitCode } }
    for (const name of streams) skipMiddle(state[name], name === 'stdout' ? slice.stdoutSize : slice.stderrSize, settings.maxLogBytes, ctx.secrets.patterns.longest)
    if (slice.exitCode !== null) continue
    // The runner waits for output; what answers at once and brings none is not asked again at once.
    if (waitMs >= idleReadMs && slice.stdout.length + slice.stderr.length === 0 && now() - askedAtMs < idleReadMs) await pause(idleReadMs, ctx)
    if (now() >= deadlineMs) {
      // Said before it is done: whoever goes on from here, after a lost answer or as a successor, finds the exit code of the stop.
      running = { ...running, timedOut: true }
      await ctx.update({ running })
      await runner.stop(run.key, settings.stopGraceMs, { timeoutMs: settings.stopGraceMs + settings.callTimeoutMs, signal: ctx.work })
      return { kind: 'timed-out', result: result(null) }
    }
    if (running.moved === true || run.move?.isDue === true) {
      // Said before it is done, as above.
      running = { ...running, moved: true }
      await ctx.update({ running })
      const grace = run.move?.graceMs ?? settings.stopGraceMs
      await runner.stop(run.key, grace, { timeoutMs: grace + settings.callTimeoutMs, signal: ctx.work })
      // What it printed last is read, and the exit code with it.
      continue
    }
    if (now() >= periodicAtMs && run.periodic !== null) periodicAtMs = (await run.periodic(deadlineMs)) ?? Infinity
  }
}

/**
 * After a take-over the tail must hold what the predecessor has shown already: reading begins that much earlier. The first
 * bytes may be the end of a secret whose beginning is not read; as many as the longest secret has are thrown away.
 */
function startStream(ctx: RunContext, shownOffset: number): StreamState {
  const { patterns } = ctx.secrets
  const readOffset = shownOffset === 0 ? 0 : Math.max(0, shownOffset - ctx.shared.settings.outputTailBytes - patterns.longest)
  return {
    redactor: new StreamRedactor(patterns),
    tail: new OutputTail(ctx.shared.settings.outputTailBytes),
    readOffset,
    shownOffset,
    warmUp: readOffset === 0 ? 0 : patterns.longest,
  }
}

function isDrained(state: Record<StreamName, StreamState>, slice: OutputSlice): boolean {
  return (
    state.stdout.readOffset + slice.stdout.length >= slice.stdoutSize && state.stderr.readOffset + slice.stderr.length >= slice.stderrSize
  )
}

/** What a slice adds to the log of one stream, masked. */
function take(ctx: RunContext, step: string, stream: StreamName, state: StreamState, slice: OutputSlice, ended: boolean): LogChunk[] {
  const raw = slice[stream]
  const from = state.readOffset - state.redactor.heldBytes
  state.readOffset += raw.length
  let shown = raw.length === 0 ? state.redactor.release() : state.redactor.push(raw)
  if (ended) shown = Buffer.concat([shown, state.redactor.flush()])
  if (shown.length === 0) return []
  const discard = Math.min(state.warmUp, shown.length)
  state.warmUp -= discard
  state.tail.push(shown.subarray(discard))
  // What lies before `shownOffset` was shown by a predecessor.
  const fresh = shown.subarray(Math.min(shown.length, Math.max(discard, state.shownOffset - from)))
  if (fresh.length === 0) return []
  const offset = from + shown.length - fresh.length
  state.shownOffset = offset + fresh.length
  return [{ step, stream, attempt: ctx.record.attempts.length, offset, data: fresh }]
}

/** Jumps over output that the log would not keep, so that a step which prints gigabytes costs no transfer. */
function skipMiddle(state: StreamState, size: number, maxLogBytes: number, longestSecret: number): void {
  const half = Math.floor(maxLogBytes / 2)
  const target = size - half
  if (state.readOffset < half || target <= state.readOffset + half) return
  // Whatever the redactor held back lies in the part that is left out.
  state.redactor.flush()
  state.readOffset = target
  state.warmUp = longestSecret
  state.shownOffset = target + longestSecret
}
