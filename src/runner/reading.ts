import { numberField, type Answer } from './answer.js'
import type { OutputSlice, ReadRequest, RunnerCallOptions } from './runner.js'

/** What a read may take beyond its `waitMs`, in milliseconds. */
export const readMarginMs = 15_000
/** The longest wait within one call: proxies in front of sandboxes cut calls that are silent for longer. */
const maxWaitMs = 20_000
/** The most bytes that one read asks for. As base64 they stay below the 4 MiB of output that every provider takes. */
const maxReadBytes = 2 * 1024 * 1024

/** A read that neither waits nor brings anything: past the end of any output. */
export const lookOnly: ReadRequest = { stdoutOffset: Number.MAX_SAFE_INTEGER, stderrOffset: Number.MAX_SAFE_INTEGER, waitMs: 0, maxBytes: 2 }

/** What `read` of the script takes after the key. */
export function readArguments(request: ReadRequest, options: RunnerCallOptions): string[] {
  const waitMs = Math.min(request.waitMs, maxWaitMs, Math.max(0, options.timeoutMs - readMarginMs / 3))
  const maxBytes = Math.max(2, Math.min(request.maxBytes, maxReadBytes))
  return [request.stdoutOffset, request.stderrOffset, Math.round(waitMs), maxBytes].map(String)
}

export function outputSlice(answer: Answer, request: ReadRequest): OutputSlice {
  // The folder of a step that was started is gone: something in the sandbox removed it, and the exit code with it.
  if (answer.failure === 'no-step') {
    return { stdout: new Uint8Array(), stderr: new Uint8Array(), stdoutSize: request.stdoutOffset, stderrSize: request.stderrOffset, exitCode: 137 }
  }
  const code = answer.fields.get('code') ?? '-'
  return {
    stdout: slice(answer, 'out'),
    stderr: slice(answer, 'err'),
    stdoutSize: numberField(answer, 'out-size'),
    stderrSize: numberField(answer, 'err-size'),
    exitCode: code === '-' ? null : Number(code),
  }
}

/** Cuts the whole blocks that came to the bytes that were asked for. */
function slice(answer: Answer, stream: 'out' | 'err'): Uint8Array {
  const bytes = answer.blobs.get(stream)
  if (bytes === undefined) return new Uint8Array()
  const skip = numberField(answer, `${stream}-skip`)
  return bytes.subarray(skip, skip + numberField(answer, `${stream}-length`))
}
