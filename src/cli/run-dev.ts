import { mkdir, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { devConfigPath, parseConfig } from '../config/load.js'
import { InvalidInputError } from '../job/errors.js'
import { closeInTurn } from './close-in-turn.js'
import { createLogger } from './logger.js'
import { startLocalStack } from './local-stack.js'
import { openBoard } from './open-board.js'
import { counted } from './output.js'
import { seedRepository } from './seed-repository.js'
import { startConsumer } from './start-consumer.js'
import { aborted } from './stop-signal.js'

export interface DevOptions {
  readonly seeds: readonly { readonly repository: string; readonly source: string }[]
  readonly sandboxes: number
  readonly boardPort: number
  /** Everything is stopped and removed when it aborts. */
  readonly signal: AbortSignal
  readonly say: (line: string) => void
  readonly onRunning: (running: { readonly config: string; readonly codeStorage: string; readonly board: string }) => void
}

/**
 * Runs everything that a job needs in this folder's `.switchyard/dev` until the signal comes, and leaves nothing.
 * @throws InvalidInputError when another one runs in this folder, or a repository can't be read.
 */
export async function runDev(options: DevOptions): Promise<void> {
  const { signal, say } = options
  const configPath = resolve(devConfigPath)
  const folder = dirname(configPath)
  if (existsSync(folder)) {
    throw new InvalidInputError(`dev: ${folder} is there already: another "switchyard dev" runs in this folder, or one was killed; stop it, or remove the folder`)
  }
  const ignored = join(dirname(folder), '.gitignore')
  // Somebody else's things may be in there; only a folder that holds nothing but what tells git to look away goes.
  const closers: (() => Promise<void>)[] = [() => removeOwn(dirname(folder), ignored)]
  try {
    // This folder is most often a repository, and what lies in there (a password, the sandboxes) is no part of it.
    await mkdir(dirname(folder), { recursive: true })
    await writeFile(ignored, ignoreAll, { flag: 'wx', mode: 0o600 }).catch(unlessThere)
    closers.push(() => rm(folder, { recursive: true, force: true }))
    const { boardPort, sandboxes } = options
    const providers = [{ name: 'local', type: 'local', limit: { sandboxes }, stateDir: join(folder, 'sandboxes') }]
    const stack = await startLocalStack({ folder, deployment: 'dev', providers, boardPort })
    closers.push(() => stack.close())
    const config = parseConfig(stack.config)
    for (const { repository, source } of options.seeds) {
      signal.throwIfAborted()
      const { commits } = await seedRepository({ git: stack.git, minter: stack.minter, storageUrl: stack.codeStorage.url }, repository, source)
      say(`repository ${repository}: ${counted(commits, 'commit')} of ${source}`)
    }
    signal.throwIfAborted()
    const consumer = await startConsumer(config, { directory: process.cwd(), environment: process.env, log: createLogger('warn') })
    closers.push(() => consumer.stop())
    const { board, close } = await openBoard(config, {})
    closers.push(close)
    // Last, so that whoever finds it finds everything running. It holds Redis' password: for this user alone.
    await writeFile(configPath, `${JSON.stringify(stack.config, null, 2)}\n`, { mode: 0o600 })
    options.onRunning({ config: configPath, codeStorage: stack.codeStorage.url, board: board.loginUrl })
    await aborted(signal)
    say('stopping')
  } finally {
    await closeInTurn(closers)
  }
}

const ignoreAll = '# Made by "switchyard dev".\n*\n'

async function removeOwn(folder: string, ignored: string): Promise<void> {
  const [names, text] = await Promise.all([readdir(folder).catch(() => []), readFile(ignored, 'utf8').catch(() => '')])
  if (names.length === 1 && text === ignoreAll) await rm(ignored, { force: true })
  await rmdir(folder).catch(() => undefined)
}

function unlessThere(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error
}
