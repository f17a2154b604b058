import { createHash } from 'node:crypto'
import { cutText, harmlessLine } from '../../job/harmless-text.js'
import { artifactFolder } from '../../job/names.js'
import type { RunRecord } from '../../job/run-record.js'
import type { JobSpec } from '../../job/spec.js'

/**
 * What a pull request says: the job's own words, and below them a summary of the result. What the job's commands could have made up stands in code
 * spans, where nothing of it is a mention, a link or markup. Pure.
 */
export function pullRequestText(
  spec: Pick<JobSpec, 'push' | 'steps'>,
  record: Pick<RunRecord, 'jobId' | 'runId' | 'generation' | 'restart' | 'steps' | 'diff' | 'collected' | 'unsaved' | 'unsavedMore' | 'finalCommit' | 'attempts'>,
  wanted: { readonly title?: string | undefined; readonly body?: string | undefined },
  mask: (text: string) => string,
): { readonly title: string; readonly body: string; readonly mark: string } {
  const message = spec.push === false ? undefined : spec.push.message
  const firstLine = cutText(harmlessLine((message ?? '').trim().split('\n')[0] ?? ''), longestTitle)
  const title = wanted.title ?? (firstLine === '' ? `Work of job ${record.jobId}`.slice(0, longestTitle) : firstLine)
  const mark = markOf(record)
  // The mark is what the request is known by: it is never masked, and never cut.
  const parts = [wanted.body?.trim() ?? '', mask(summary(record))].filter((part) => part !== '').map((part) => mask(part))
  return { title: mask(title), body: `${parts.join('\n\n---\n\n')}\n\n\`${mark}\`\n`, mark }
}

const longestTitle = 200
const mostNamed = 10

/** The same for the same attempt of the same run, whoever asks, and for no other. */
function markOf(record: Pick<RunRecord, 'jobId' | 'runId' | 'generation' | 'restart'>): string {
  const folder = artifactFolder(record)
  return `switchyard ${createHash('sha256').update(folder).digest('hex').slice(0, 20)}`
}

function summary({ jobId, steps, diff, collected, unsaved, unsavedMore, finalCommit, attempts }: Parameters<typeof pullRequestText>[1]): string {
  const tests = collected?.tests ?? null
  const failed = tests === null ? 0 : tests.failures + tests.errors
  const artifacts = collected?.artifacts ?? []
  const notSaved = unsaved.length + unsavedMore
  const moves = attempts.filter(({ sandboxId }) => sandboxId !== null).length
  const lines = [
    `Job ${code(jobId)}${finalCommit === null ? '' : `, commit ${code(finalCommit)}`}`,
    '',
    ...(diff === null ? [] : [`- ${diff.files} ${diff.files === 1 ? 'file' : 'files'} changed, +${diff.additions} -${diff.deletions}`]),
    ...steps.slice(0, mostNamed).map(({ name, exitCode, durationMs }) => `- ${code(name)}: ${exitCode === null ? 'stopped' : `exit ${exitCode}`} after ${Math.round(durationMs / 1000)} s`),
    ...(steps.length > mostNamed ? [`- ${steps.length - mostNamed} more steps`] : []),
    ...(tests === null ? [] : [`- ${tests.tests} ${tests.tests === 1 ? 'test' : 'tests'} in ${tests.timeSeconds} s, ${failed} failed, ${tests.skipped} skipped`]),
    ...(tests?.failing ?? []).slice(0, mostNamed).map(({ of, name }) => `  - ${code([of, name].filter((part) => part !== '').join(' > '))}`),
    ...(artifacts.length === 0 ? [] : [`- ${artifacts.length} ${artifacts.length === 1 ? 'artifact' : 'artifacts'} stored`]),
    ...(notSaved === 0 ? [] : [`- ${notSaved} ${notSaved === 1 ? 'path' : 'paths'} not saved, such as ${code(unsaved[0]?.path ?? '')}`]),
    ...(moves > 1 ? [`- ran in ${moves} sandboxes`] : []),
  ]
  return lines.join('\n')
}

/** A text as it is and nothing else: hosts take no markup, mention or link from within. */
function code(text: string): string {
  const line = harmlessLine(text).replaceAll('`', "'").trim()
  return line === '' ? '`-`' : `\`${cutText(line, 200)}\``
}
