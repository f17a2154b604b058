import type { Command } from 'commander'
import { InvalidInputError } from '../../job/errors.js'
import { parseDuration } from '../../job/duration.js'
import { exitCodes } from '../exit-codes.js'
import { print, printJson } from '../print.js'
import { collect, configOf, withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'
import { listenForStop } from '../stop-signal.js'

type Flags = SharedFlags & {
  readonly provider?: readonly string[]
  readonly repository?: string
  readonly image?: string
  readonly timeout?: string
}

/** `switchyard doctor`: does at every provider, for a moment, what a job does there. */
export function addDoctorCommand(program: Command): void {
  const command = program
    .command('doctor')
    .description('check Redis, the git host and every provider by doing there what a job does')
    .option('-r, --repository <id>', 'clone this repository in every sandbox and push to a scratch branch of it, which is deleted again')
    .option('-p, --provider <name>', 'check this provider only; may be given several times', collect)
    .option('--image <image>', 'create the sandboxes from this image or template (default: each provider’s own)')
    .option('--timeout <duration>', 'how long one check may take, such as 30s (default: as consumers wait)')
  withConfigOption(withJsonOption(command, 'every check'))
  command
    .addHelpText(
      'after',
      `
At each provider, side by side: credentials, create, exec, clone, push, kill. It costs a sandbox for some seconds each. Nothing is
left behind, also after Ctrl-C; what could not be removed is a failed check that names it.
Exit 0 when nothing failed, 2 when only the configuration is wrong, 3 when something can't be used now.

Examples:
  switchyard doctor
  switchyard doctor --repository acme/web --provider e2b
  switchyard doctor --json | jq '.checks[] | select(.outcome == "failed")'`,
    )
    .action(async (flags: Flags) => {
      const { config, path } = await configOf(flags)
      const timeoutMs = timeoutOf(flags.timeout)
      const [{ runDoctor }, { configDirectory }, report] = await Promise.all([import('../doctor/run-doctor.js'), import('../../config/providers.js'), import('../doctor/report.js')])
      const names = ['redis', 'git', 'artifacts', 'providers', ...config.providers.map(({ name }) => name)]
      let begun = false
      using stop = listenForStop()
      const results = await runDoctor({
        config,
        directory: configDirectory(path),
        environment: process.env,
        only: flags.provider ?? [],
        repository: flags.repository,
        image: flags.image,
        timeoutMs,
        signal: stop.signal,
        onChecked: (checked) => {
          if (flags.json === true) return
          if (!begun) print(report.header(names))
          begun = true
          print(report.rows(names, checked))
        },
      })
      const code = report.exitCodeOf(results, stop.received !== undefined)
      if (flags.json === true) printJson({ ok: code === exitCodes.ok, checks: results })
      else print(`\n${report.summary(results)}`)
      process.exitCode = code
    })
}

function timeoutOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const parsed = parseDuration(text)
  if (parsed === undefined || parsed < 1) throw new InvalidInputError(`--timeout: "${text}" is not a duration; write a number and a unit, such as "30s"`)
  return parsed
}
