/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
import { createHash } from 'node:crypto'
import { mayBeJobId } from '../../job/names.js'
import type { JobStatus } from '../../job/status.js'
import { instant, lasted } from './text.js'

/** Small pieces that both pages are made of. */

/** A part of a page that is sent again when its key changes. */
export interface Fragment {
  /** Of its element. */
  readonly id: string
  /** What it shows, without what time alone changes. */
  readonly key: string
  readonly html: string
  /** The fragment that holds it, and is whole with it. */
  readonly within?: string
}

const states: Readonly<Record<JobStatus['state'], { readonly sign: string; readonly tone: string }>> = {
  waiting: { sign: '○', tone: 'wait' },
  running: { sign: '●', tone: 'now' },
  parked: { sign: '◌', tone: 'wait' },
  succeeded: { sign: '✓', tone: 'good' },
  failed: { sign: '✕', tone: 'bad' },
  cancelled: { sign: '–', tone: 'soft' },
}

/** A job's state: a sign, a word and a colour. */
export function State({ state, badge }: { readonly state: JobStatus['state']; readonly badge?: boolean }) {
  const { sign, tone } = states[state]
  return <span class={`state ${tone}${badge === true ? ' badge' : ''}`}><span aria-hidden="true">{sign}</span> {state}</span>
}

/** How long something lasts by now; the page's script counts on. */
export function Lasting({ ms }: { readonly ms: number }) {
  return <span data-ms={Math.max(0, Math.round(ms))}>{lasted(ms)}</span>
}

export function Instant({ atMs }: { readonly atMs: number }) {
  const { machine, people } = instant(atMs)
  return <time datetime={machine}>{people}</time>
}

/** How much of something is taken, as a bar beside its number. */
export function Meter({ used, of }: { readonly used: number; readonly of: number }) {
  const width = of <= 0 ? (used > 0 ? 100 : 0) : Math.min(100, (100 * used) / of)
  return (
    <svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect class="track" width="100" height="6" rx="1" />
      <rect class={used >= of ? 'full' : 'fill'} width={Math.round(width * 10) / 10} height="6" rx="1" />
    </svg>
  )
}

/** What to say of entries that are not shown. */
export function More({ count, what }: { readonly count: number; readonly what: string }) {
  return count > 0 ? <p class="more">and {count.toLocaleString('en-US')} more {what}</p> : null
}

/** A job's own address; nothing but letters of a URL is left of its id. What can be no job's id leads to the fleet. */
export function jobPath(base: string, jobId: string): string {
  return mayBeJobId(jobId) ? `${base}/fleet/jobs/${encodeURIComponent(jobId)}` : `${base}/fleet`
}

/** An id of an element for something that a job or a provider has named. */
export function elementId(kind: string, name: string): string {
  return `${kind}-${createHash('sha256').update(name).digest('base64url').slice(0, 16)}`
}

/** What components are as HTML; none of ours waits for anything. */
export function markup(node: unknown): string {
  return String(node)
}
