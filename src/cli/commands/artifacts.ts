import { Option, type Command } from 'commander'
import { parseDuration } from '../../job/duration.js'
import { InvalidInputError } from '../../job/errors.js'
import { print, printJson } from '../print.js'
import { withConfigOption, withJsonOption, type SharedFlags } from '../shared-options.js'

type Flags = SharedFlags & { readonly links?: boolean; readonly download?: string; readonly expires: string }

/** Presigned links are good for a week at most: S3 makes no others. */
const longestMs = 7 * 24 * 60 * 60 * 1000

/** `switchyard artifacts`: what a job left, links that open it for a while, and the files themselves. */
export function addArtifactsCommand(program: Command): void {
  const command = program
    .command('artifacts <job-id>')
    .description('list the artifacts of a job that has ended, make links to them, or fetch them')
    .option('--links', 'make a link to each, which opens it for a while')
    .addOption(new Option('--expires <duration>', 'how long the links are good for').default('1h'))
    .option('--download <folder>', 'fetch them into a folder, each checked by its size and digest')
  withConfigOption(withJsonOption(command, 'the list'))
  command
    .addHelpText(
      'after',
      `
Links and files need the store in the configuration ("artifacts"), as the consumers have it.

Examples:
  switchyard artifacts JOB_ID
  switchyard artifacts JOB_ID --links --expires 10m
  switchyard artifacts JOB_ID --download ./artifacts`,
    )
    .action(async (jobId: string, flags: Flags) => {
      const expiresMs = parseDuration(flags.expires)
      if (expiresMs === undefined || expiresMs < 1_000 || expiresMs > longestMs) throw new InvalidInputError(`--expires: "${flags.expires}" must be a duration from 1s to 7d, such as 1h`)
      const { linked, download, storeOf } = await import('../artifact-files.js')
      const { artifactsReport } = await import('../report.js')
      const { withQueue } = await import('../open-queue.js')
      const { result } = await withQueue(flags, async (queue) => await queue.job(jobId).status())
      if (result === null) throw new InvalidInputError(`job ${jobId} has not ended; its artifacts are stored when it has`)
      if (flags.links !== true && flags.download === undefined) {
        if (flags.json === true) printJson({ artifacts: result.artifacts, missed: result.artifactsMissed, missedMore: result.artifactsMissedMore, tests: result.tests })
        else print(artifactsReport(result))
        return
      }
      const store = await storeOf(flags)
      try {
        const links = await linked(store, result.artifacts, { expiresInSeconds: Math.floor(expiresMs / 1000) })
        if (flags.download !== undefined) {
          const paths = await download(links, flags.download)
          if (flags.json === true) printJson(paths)
          else print(paths.join('\n'))
        } else if (flags.json === true) printJson(links)
        else print(links.map(({ link }) => link).join('\n'))
      } finally {
        store.close()
      }
    })
}
