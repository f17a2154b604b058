import type { Command } from 'commander'
import { harmlessLine } from '../../job/harmless-text.js'
import { exitCodes } from '../exit-codes.js'
import { counted } from '../output.js'
import { print, printJson } from '../print.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

/** `switchyard config`: checks a configuration without calling anybody. */
export function addConfigCommand(program: Command): void {
  const config = program.command('config').description('check a configuration').addHelpText('after', '\nExamples:\n  switchyard config check switchyard.config.ts')
  withConfigOption(withJsonOption(config.command('check [file]').description('say everything that is wrong with a configuration at once; calls nobody'), 'the file, problems and warnings'))
    .addHelpText(
      'after',
      `
It reads the file as the other commands find it, with the environment over it, and checks what each provider's adapter, the git host and
the artifact store take. A key that is not set here is a problem, too. "switchyard doctor" then tries it all for real.
Exit 2 when anything is wrong.

Examples:
  switchyard config check switchyard.config.ts
  switchyard config check --json | jq -r '.problems[]'`,
    )
    .action(async (file: string | undefined, flags: SharedFlags) => {
      const { checkConfig } = await import('../../config/check.js')
      const { path, problems, warnings } = await checkConfig({ path: file ?? flags.config })
      if (flags.json === true) printJson({ path: path ?? null, problems, warnings })
      else {
        const verdict = problems.length === 0 ? 'nothing is wrong' : counted(problems.length, 'problem')
        print([...problems.map((problem) => `problem: ${harmlessLine(problem)}`), ...warnings.map((warning) => `warning: ${harmlessLine(warning)}`), `${path === undefined ? 'no file; the defaults hold' : harmlessLine(path)}: ${verdict}`].join('\n'))
      }
      if (problems.length > 0) process.exitCode = exitCodes.badInput
    })
}
