/**
 * A command's output as the engine sends it: frames of an 8-byte header (the stream's number, three zeros, the length in four
 * bytes) and the bytes. The runtime's own complaint, when a command could not be started, comes the same way.
 *
 * So the command is made to print a mark before it does anything: no mark means that the shell never began, and the exit
 * code is the runtime's.
 */

/** How much of a command's output is kept; the rest is read and dropped, so that the command never blocks. */
export const maxStdoutBytes = 8 * 1024 * 1024

/** The longest script. Linux takes 128 KiB for one argument; the lines before it are shorter than the rest. */
export const maxScriptBytes = 120_000

/** Shells read `-c` line by line, so a mistake in the script's syntax comes after the mark. */
export function markedScript(script: string, mark: string, cwd: string | undefined): string {
  const goHome = cwd === undefined ? '; cd "${HOME:-/}" 2>/dev/null || cd /' : ''
  return `printf '%s\\n' '${mark}'${goHome}\n${script}`
}

export interface CommandOutput {
  /** What the script printed; undefined when it never began. */
  readonly stdout: string | undefined
  /** What the runtime said of a script that never began. May quote it. */
  readonly complaint: string
}

/**
 * @param begun called at the first output, which is the mark or what the runtime says instead.
 * @throws Error when the stream ends within a frame.
 */
export async function readOutput(frames: AsyncIterable<Buffer>, mark: string, begun: () => void = () => undefined): Promise<CommandOutput> {
  const kept: Buffer[] = []
  let keptBytes = 0
  let pending: Buffer = Buffer.alloc(0)
  let stream = 0
  let leftBytes = 0
  let other = ''
  for await (const chunk of frames) {
    begun()
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk])
    while (pending.length > 0) {
      if (leftBytes === 0) {
        if (pending.length < 8) break
        stream = pending.readUInt8(0)
        leftBytes = pending.readUInt32BE(4)
        pending = pending.subarray(8)
        continue
      }
      const part = pending.subarray(0, leftBytes)
      pending = pending.subarray(part.length)
      leftBytes -= part.length
      if (stream !== 1) other = `${other}${part.toString('latin1')}`.slice(0, 2000)
      else if (keptBytes < maxStdoutBytes) {
        kept.push(part.subarray(0, maxStdoutBytes - keptBytes))
        keptBytes += part.length
      }
    }
  }
  if (leftBytes > 0 || pending.length > 0) throw new Error('the output was cut off')
  const text = Buffer.concat(kept).toString()
  return text.startsWith(`${mark}\n`) ? { stdout: text.slice(mark.length + 1), complaint: '' } : { stdout: undefined, complaint: `${other}${text.slice(0, 2000)}` }
}
