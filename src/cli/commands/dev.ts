import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import { repositoryProblem } from '../../job/names.js'
import { print, printJson, say } from '../print.js'
import { collect, withJsonOption, type SharedFlags } from '../shared-options.js'
import type { RunningDev } from '../dev/run-dev.js'
import { listenForStop } from '../stop-signal.js'

type Flags = SharedFlags & { readonly repository?: readonly string[]; readonly sandboxes: string; readonly boardPort: string; readonly secret?: readonly string[]; readonly envFile?: string; readonly https?: boolean }

/** `switchyard dev`: everything that a job needs, on this machine, until Ctrl-C. */
export function addDevCommand(program: Command): void {
  const command = program
    .command('dev')
    .description('run everything that a job needs on this machine: Redis, a local Code Storage, a consumer, the board')
    .option('-r, --repository <id=folder>', 'a repository to start with, from a folder; may be given several times (default: dev/project=.)', collect)
    .option('--secret <NAME>', 'a variable of the environment that jobs may ask for by name; may be given several times', collect)
    .option('--env-file <file>', 'a file of variables that jobs may ask for by name (default: .env, where there is one)')
    .option('--sandboxes <number>', 'how many sandboxes may run at once', '4')
    .option('--board-port <number>', 'the board’s port; 0 for any that is free', '0')
    .option('--https', 'serve the Code Storage by https as well, with a certificate that it makes, so that its SDK’s URLs work as they are')
  withJsonOption(command, 'what is running and where')
  command
    .addHelpText(
      'after',
      `
Other commands in this checkout find it by themselves. When a job ends, its branch and its promotion are fetched into the folder that the
repository is from, as switchyard/BRANCH, and the command that shows them is printed; branches of yours are never moved. Secrets stay in
this process. Ctrl-C stops everything, kills the sandboxes and removes all of it, except what jobs made and no checkout could take: that is
kept in .switchyard/kept, and said.

Example:
  switchyard dev -r acme/web=../web --secret ANTHROPIC_API_KEY
  switchyard enqueue -r acme/web -s 'ls' --wait      (in another terminal)`,
    )
    .action(async (flags: Flags) => {
      const seeds = (flags.repository ?? ['dev/project=.']).map(seedOf)
      const sandboxes = wholeNumber('--sandboxes', flags.sandboxes, 1, 1000)
      const boardPort = wholeNumber('--board-port', flags.boardPort, 0, 65_535)
      const { devSecrets } = await import('../dev/secrets.js')
      const secrets = await devSecrets(flags.secret ?? [], flags.envFile, process.env)
      const { checkoutOf } = await import('../dev/bring-home.js')
      const top = (await checkoutOf('.')) ?? process.cwd()
      const { runDev } = await import('../dev/run-dev.js')
      using stop = listenForStop()
      try {
        await runDev({
          top,
          seeds,
          secrets,
          sandboxes,
          boardPort,
          https: flags.https === true,
          signal: stop.signal,
          say,
          onRunning: (running) => {
            if (flags.json === true) printJson(running)
            else print(introduction(running, seeds[0]?.repository ?? ''))
          },
        })
      } catch (error) {
        if (stop.received === undefined) throw error
      }
    })
}

function introduction(running: RunningDev, repository: string): string {
  const { https } = running
  const secure = https === undefined ? '' : `              ${https.url}   (git: GIT_SSL_CAINFO=${https.certificateFile}, Node: NODE_EXTRA_CA_CERTS)\n`
  return `Code Storage  ${running.codeStorage}
${secure}Bull Board    ${running.board}
config        export SWITCHYARD_CONFIG=${running.config}   (only in other folders)
try           switchyard enqueue -r ${repository} -s 'ls' --wait
Ctrl-C stops everything.`
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
