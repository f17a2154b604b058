import { runCommand } from '../../src/cli/run-command.js'

/**
 * Runs command lines one after the other as `switchyard` does, in one process: to start it takes twenty times as long as most of them. What they print and
 * the exit code that they leave goes to whoever asks; see ./run-switchyard.ts.
 */
export interface CommandAsked {
  readonly args: readonly string[]
  readonly folder: string
  readonly environment: Readonly<Record<string, string>>
}
export interface CommandEnded {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const own = { ...process.env }
let last = Promise.resolve()
process.on('message', ({ args, folder, environment }: CommandAsked) => {
  last = last.then(async () => {
    process.env = { ...own, ...environment }
    process.chdir(folder)
    process.exitCode = undefined
    const [stdout, stderr] = [kept(process.stdout), kept(process.stderr)]
    await runCommand(args)
    // TypeScript takes it for what was put there before.
    const code = Number((process as { exitCode?: number | string | null | undefined }).exitCode ?? 0)
    const ended: CommandEnded = { code, stdout: stdout(), stderr: stderr() }
    process.exitCode = undefined
    process.send?.(ended)
  })
})
process.on('disconnect', () => process.exit())

/** Keeps what is written to a stream from now on. @returns it, once, and lets the stream be. */
function kept(stream: NodeJS.WriteStream): () => string {
  const write = stream.write.bind(stream)
  let text = ''
  stream.write = (data: string | Uint8Array) => {
    text += typeof data === 'string' ? data : Buffer.from(data).toString()
    return true
  }
  return () => {
    stream.write = write
    return text
  }
}
