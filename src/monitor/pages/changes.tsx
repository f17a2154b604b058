/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
import type { Child } from 'hono/jsx'
import { counted } from '../../job/counted.js'
import { withPictures } from '../../job/harmless-text.js'
import type { ShownPatch } from '../../job/patch.js'
import type { JobResult } from '../../job/result.js'
import { elementId, More } from './parts.js'
import { line, whole } from './text.js'

/** What a job has changed: how much, which paths, and the lines as far as they are kept. */

const mostPaths = 200
/** Files whose lines are open at first. */
const mostOpen = 3
const longestLine = 600

export function Changes({ diff: { files, additions, deletions, paths }, patch, link }: { readonly diff: NonNullable<JobResult['diff']>; readonly patch: ShownPatch | null; readonly link: (text: string) => Child }) {
  return (
    <>
      <p class="none">Changed: {link(counted(files, 'file'))}, <span class="good">+{whole(additions)}</span> <span class="bad">−{whole(deletions)}</span></p>
      {paths.length === 0 ? null : (
        <details id="paths" open={paths.length <= 20}>
          <summary id="paths-summary">{counted(paths.length, 'path')}</summary>
          <ul class="paths id">{paths.slice(0, mostPaths).map((path) => <li dir="auto">{line(path, 200)}</li>)}</ul>
          <More count={files - Math.min(paths.length, mostPaths)} what="paths" />
        </details>
      )}
      {files === 0 ? null : <Lines patch={patch} files={files} />}
    </>
  )
}

function Lines({ patch, files }: { readonly patch: ShownPatch | null; readonly files: number }) {
  if (patch === null) return <p class="more">No changed lines are kept here: consumers keep them as long as the result, unless their <code>consumer.patchBytes</code> is 0. The commit has them.</p>
  if (!patch.known) return <p class="more">The git host gives no changed lines; the commit has them.</p>
  const shown = patch.files.filter(({ text }) => text !== '')
  return (
    <div class="lines">
      {shown.map(({ path, text, cut }, index) => (
        <details id={elementId('changes', path)} open={index < mostOpen}>
          <summary id={elementId('changes-of', path)} class="id" dir="auto">{line(path, 200)}</summary>
          <pre class="diff" tabindex={0} role="region" aria-label={`Changed lines of ${line(path, 200)}`} dir="auto">{groupsOf(text).map(({ kind, lines }) => <span class={kind}>{lines.join('\n')}</span>)}</pre>
          {cut ? <p class="more">There are more; the commit has them.</p> : null}
        </details>
      ))}
      {shown.length < files ? <p class="more">{whole(files - shown.length)} more without changed lines here: binary, moved, or past what is kept. The commit has them.</p> : null}
    </div>
  )
}

type Kind = 'add' | 'del' | 'at' | 'same'

/** Lines that follow each other and are of a kind; what stands in them is text, whatever it looks like. */
export function groupsOf(text: string): { readonly kind: Kind; readonly lines: readonly string[] }[] {
  const groups: { kind: Kind; lines: string[] }[] = []
  for (const each of text.replace(/\n$/, '').split('\n')) {
    const kind = each.startsWith('@@ ') ? 'at' : each.startsWith('+') ? 'add' : each.startsWith('-') ? 'del' : 'same'
    const last = groups.at(-1)
    const shown = withPictures(each.length > longestLine ? `${each.slice(0, longestLine)}…` : each)
    if (last?.kind === kind) last.lines.push(shown)
    else groups.push({ kind, lines: [shown] })
  }
  return groups
}
