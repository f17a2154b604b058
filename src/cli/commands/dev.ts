import { mkdir, rm, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { devConfigPath, parseConfig } from '../../config/load.js'
import { InvalidInputError } from '../../job/errors.js'
import { repositoryProblem } from '../../job/names.js'
import { openBoard } from './board.js'
import { createLogger } from '../logger.js'
import { startLocalStack } from '../local-stack.js'
import { seedRepository } from '../seed-repository.js'
import { collect, withJsonOption, type SharedFlags } from '../shared-options.js'
import { startConsumer } from '../start-consumer.js'
import { aborted, listenForStop } from '../stop-signal.js'

type Flags = SharedFlags & { readonly repository?: readonly string[]; readonly sandboxes: string; readonly boardPort: string }

/** `switchyard dev`: everything that a job needs, on this machine, until Ctrl-C. */
export function addDevCommand(program: Command): void {
  const command = program
    .command('dev')
    .description('run everything that a job needs on this machine: Redis, a local Code Storage, a consumer, the board')
    .option('-r, --repository <id=folder>', 'a repository to start with, from a folder; may be given several times (default: dev/project=.)', collect)
    .option('--sandboxes <number>', 'how many sandboxes may run at once', '4')
    .option('--board-port <number>', 'the board’s port; 0 for any that is free', '0')
  withJsonOption(command, 'what is running and where')
  command
    .addHelpText(
      'after',
      `
Other commands in this folder find it by themselves. Ctrl-C stops everything, kills the sandboxes and removes all of it.

Example:
  switchyard dev -r acme/web=../web
  switchyard enqueue -r acme/web -s 'ls' --wait      (in another terminal)`,
    )
    .action(async (flags: Flags) => {
      const seeds = (flags.repository ?? ['dev/project=.']).map(seedOf)
      const sandboxes = wholeNumber('--sandboxes', flags.sandboxes, 1, 1000)
      const boardPort = wholeNumber('--board-port', flags.boardPort, 0, 65_535)
      const folder = resolve(dirname(devConfigPath))
      if (existsSync(folder)) {
        throw new InvalidInputError(`dev: ${folder} is there already: another "switchyard dev" runs in this folder, or one was killed; stop it, or remove the folder`)
      }
      using stop = listenForStop()
      const say = (line: string) => void process.stderr.write(`${line}\n`)
      const stack = await startLocalStack({ folder, deployment: 'dev', providers: { local: sandboxes }, boardPort, log: () => undefined })
      const closers: (() => Promise<void>)[] = [() => stack.close()]
      try {
        const config = parseConfig(stack.config)
        for (const { repository, source } of seeds) {
          const { commits } = await seedRepository({ git: stack.git, minter: stack.minter, storageUrl: stack.codeStorage.url }, repository, source)
          say(`repository ${repository}: ${commits} commits of ${source}`)
        }
        const consumer = await startConsumer(config, { directory: process.cwd(), environment: process.env, log: createLogger('warn') })
        closers.push(() => consumer.stop())
        const { board, close } = await openBoard(config, {})
        closers.push(close)
        // Last, so that whoever finds it finds everything running. It holds Redis' password: for this user alone.
        await mkdir(folder, { recursive: true, mode: 0o700 })
        await writeFile(resolve(devConfigPath), `${JSON.stringify(stack.config, null, 2)}\n`, { mode: 0o600 })
        const running = { config: resolve(devConfigPath), repositories: seeds.map(({ repository }) => repository), codeStorage: stack.codeStorage.url, board: board.url }
        process.stdout.write(
          flags.json === true
            ? `${JSON.stringify(running)}\n`
            : [
                `Code Storage  ${running.codeStorage}`,
                `Bull Board    ${running.board}`,
                `config        export SWITCHYARD_CONFIG=${running.config}   (only in other folders)`,
                `try           switchyard enqueue -r ${seeds[0]?.repository ?? ''} -s 'ls' --wait`,
                'Ctrl-C stops everything.\n',
              ].join('\n'),
        )
        await aborted(stop.signal)
        say('stopping')
      } finally {
        await closeAll(closers)
        await rm(join(folder), { recursive: true, force: true })
        await removeIfEmpty(dirname(folder))
      }
    })
}

async function closeAll(closers: (() => Promise<void>)[]): Promise<void> {
  const failures: unknown[] = []
  for (const close of closers.reverse()) await close().catch((error: unknown) => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

async function removeIfEmpty(folder: string): Promise<void> {
  const { rmdir } = await import('node:fs/promises')
  // Something else of the user's may be in there.
  await rmdir(folder).catch(() => undefined)
}

function seedOf(text: string): { readonly repository: string; readonly source: string } {
  const at = text.indexOf('=')
  if (at <= 0 || at === text.length - 1) throw new InvalidInputError(`--repository: "${text}" must be ID=FOLDER, such as acme/web=../web`)
  const repository = text.slice(0, at)
  const problem = repositoryProblem(repository)
  if (problem !== undefined) throw new InvalidInputError(`--repository: "${repository}" ${problem}`)
  const source = resolve(text.slice(at + 1))
  if (!existsSync(source)) throw new InvalidInputError(`--repository: there is no folder ${source}`)
  return { repository, source }
}

function wholeNumber(flag: string, text: string, least: number, most: number): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < least || value > most) throw new InvalidInputError(`${flag}: "${text}" must be a whole number from ${least} to ${most}`)
  return value
}
