import { MalformedAnswer, numberField, textField, type Answer } from './answer.js'
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
  const code = textField(answer, 'code', /^(-|[0-9]{1,3})$/)
  const exitCode = code === '-' ? null : Number(code)
  if (exitCode !== null && exitCode > 255) throw new MalformedAnswer('its exit code is out of range')
  const stdoutSize = numberField(answer, 'out-size')
  const stderrSize = numberField(answer, 'err-size')
  const stdout = slice(answer, 'out', request.maxBytes, stdoutSize - request.stdoutOffset)
  const stderr = slice(answer, 'err', request.maxBytes, stderrSize - request.stderrOffset)
  // Of a command that has ended the rest is there to be read: whoever says so and brings nothing would be asked for ever.
  const rest = stdoutSize > request.stdoutOffset || stderrSize > request.stderrOffset
  if (exitCode !== null && rest && stdout.length + stderr.length === 0) throw new MalformedAnswer('the output that it speaks of is not there')
  return { stdout, stderr, stdoutSize, stderrSize, exitCode }
}

/** Cuts the whole blocks that came to the bytes that were asked for. */
function slice(answer: Answer, stream: 'out' | 'err', mostBytes: number, left: number): Uint8Array {
  const bytes = answer.blobs.get(stream)
  if (bytes === undefined) return new Uint8Array()
  const skip = numberField(answer, `${stream}-skip`, bytes.length)
  const length = numberField(answer, `${stream}-length`, Math.max(2, mostBytes))
  if (length > left || skip + length > bytes.length) throw new MalformedAnswer(`the bytes of its output are not as many as it says`)
  return bytes.subarray(skip, skip + length)
}
