import { harmlessJson, harmlessText } from '../job/harmless-text.js'

/**
 * The way out for what the commands say. Reports make their parts harmless before they put them together, since only there a line end of
 * somebody else's can be told from ours; this is the second lock, for whatever is forgotten: nothing that a terminal obeys passes.
 */

/** On stdout: what a command was asked for. */
export function print(text: string): void {
  printTo(process.stdout, text)
}

/** On stderr: what is said besides. */
export function say(text: string): void {
  printTo(process.stderr, text)
}

/** @param text one or more lines, the last without its end. */
export function printTo(stream: NodeJS.WritableStream, text: string): void {
  stream.write(`${harmlessText(text)}\n`)
}

/** One line of JSON on stdout. */
export function printJson(value: unknown): void {
  process.stdout.write(`${jsonLine(value)}\n`)
}

export function jsonLine(value: unknown): string {
  return harmlessJson(JSON.stringify(value))
}

/** As it is; waits for a slow reader, so that a long output does not pile up in memory. */
export async function pass(stream: NodeJS.WritableStream, data: string | Uint8Array): Promise<void> {
  if (data.length > 0 && !stream.write(data)) await new Promise((resolve) => stream.once('drain', resolve))
}
