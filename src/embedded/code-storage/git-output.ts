import { spawn } from 'node:child_process'
import { Readable } from 'node:stream'
import { gitEnvironment } from '../../git/git-process.js'
import { started } from '../../job/started.js'
import type { Repository } from './repositories.js'

/**
 * Starts git and gives its output as it comes, once there is some or it has ended well.
 * @returns its words instead, when it failed before any output.
 */
export async function gitOutput(repository: Repository, args: readonly string[], variables: Readonly<Record<string, string>> = {}): Promise<{ body: ReadableStream<Uint8Array> } | { failed: string }> {
  const child = await started(
    spawn('git', args, {
      cwd: repository.path,
      env: { ...gitEnvironment(undefined, { 'safe.directory': '*' }), GIT_DIR: repository.path, ...variables },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  )
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (stderr.length < 4096) stderr += text
  })
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve(code))
  })
  const readable = new Promise<void>((resolve) => child.stdout.once('readable', resolve))
  const code = await Promise.race([readable.then(() => undefined), ended])
  // An end without output makes the stream readable as well.
  if (child.stdout.readableLength === 0 && (code === undefined ? await ended : code) !== 0) return { failed: stderr.trim() }
  // A failure from here on cuts the answer off, and a client that went away ends git at its next write.
  ended.then(
    (last) => (last === 0 ? undefined : child.stdout.destroy(new Error(stderr.trim()))),
    (error: unknown) => child.stdout.destroy(error instanceof Error ? error : new Error(String(error))),
  )
  return { body: Readable.toWeb(child.stdout) as ReadableStream<Uint8Array> }
}
