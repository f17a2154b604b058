import { basename } from 'node:path'
import type { Command } from 'commander'
import { InvalidInputError, errorMessage } from '../../job/errors.js'
import { print, printJson } from '../print.js'
import { withJsonOption, type SharedFlags } from '../shared-options.js'

/** `switchyard init`: a small configuration and a job to begin with. */
export function addInitCommand(program: Command): void {
  const command = program.command('init').description('write a small configuration and an example job into this folder, over nothing that is there')
  withJsonOption(command, 'what was written')
  command
    .addHelpText(
      'after',
      `
Example:
  switchyard init
  switchyard dev                                        (in another terminal)
  switchyard enqueue --file agent-job.json --wait`,
    )
    .action(async (flags: SharedFlags) => {
      const { jobName, writeInitFiles } = await import('../init-files.js')
      const files = await writeInitFiles(process.cwd()).catch((error: unknown) => {
        throw new InvalidInputError(`init: nothing can be written here (${errorMessage(error)}); run it in a folder of yours`)
      })
      if (flags.json === true) {
        printJson(files)
        return
      }
      for (const { path, instead } of files) print(instead === null ? `${basename(path)}  written` : `${basename(path)}  left out: ${basename(instead)} is there already`)
      print(`\ntry  switchyard dev                                        (in another terminal of this folder)\n     switchyard enqueue --file ${jobName} --wait`)
    })
}
