/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
import { raw } from 'hono/html'
import type { Child } from 'hono/jsx'
import { counted } from '../../job/counted.js'
import type { JobView } from '../../job/fleet.js'
import { type Links, webLink } from '../../job/page-links.js'
import { Changes } from './changes.js'
import { courseOf, type Course } from './course.js'
import { CoursePicture } from './course-picture.js'
import { Layout, type Place } from './layout.js'
import { type Fragment, Instant, jobPath, Lasting, markup, More, State } from './parts.js'
import { lasted, line, money, tail, took, whole } from './text.js'

/** A job's page: where it stands, its course, its steps and attempts, what it made, and the end of its output. Fragments as of the fleet's page. */
export interface JobPageOptions extends Place {
  readonly links: Links
}

const mostEntries = 50
const outputLines = 200

export function jobFragments(view: JobView, options: JobPageOptions & { readonly asked?: boolean }): Fragment[] {
  const course = courseOf(view)
  const { status } = view
  const parts: [id: string, shows: unknown, html: unknown][] = [
    ['head', [status.state, status.repository], <Head view={view} />],
    // Not with every change: somebody may be writing into it.
    ['acts', actsOf(view), <Acts view={view} {...options} />],
    ['why', [status.reason, status.result?.error, status.checkpointProblem], <Why view={view} />],
    ['facts', { ...status, result: null, unsaved: null, consumer: view.consumer, run: view.run }, <Facts view={view} />],
    ['course', course, <CourseSection course={course} />],
    ['steps', [view.stepResults, view.steps, status.step], <Steps view={view} />],
    ['attempts', view.attempts, <Attempts view={view} />],
    ['work', [status.result, status.checkpointSha, status.unsaved, view.patch], <Work view={view} links={options.links} />],
    ['output', [view.output, view.outputCut], <Output view={view} />],
  ]
  return parts.map(([id, shows, html]) => ({ id, key: JSON.stringify(shows), html: markup(html) }))
}

/** In place of what may be done to a job that has ended while somebody watches: forms are made for one visitor, and this goes to all. */
export function endedActs(jobId: string, base: string): Fragment {
  return { id: 'acts', key: 'ended', html: markup(<div id="acts" class="acts"><a id="acts-again" href={jobPath(base, jobId)}>It has ended: load the page again</a></div>) }
}

/** @param asked whether the visitor came to cancel it: what that takes is open then. */
export function JobPage({ view, said, live, asked = false, ...options }: JobPageOptions & { readonly view: JobView; readonly said: string | null; readonly live: string | null; readonly asked?: boolean }) {
  const html = new Map(jobFragments(view, { ...options, asked }).map((fragment) => [fragment.id, fragment.html]))
  const part = (id: string) => raw(html.get(id) ?? '')
  return (
    <Layout {...options} title={`${line(view.status.repository, 60)} · Switchyard`} live={live}>
      {said === null ? null : <p class="note now" role="status"><span>{line(said, 300)}</span></p>}
      <div class="title">{part('head')}{part('acts')}</div>
      {part('why')}
      {part('facts')}
      {part('course')}
      {part('steps')}
      {part('attempts')}
      {part('work')}
      {part('output')}
    </Layout>
  )
}

function Head({ view: { status } }: { readonly view: JobView }) {
  return (
    <div id="head">
      <h1>{line(status.repository, 120) || 'A job without a repository'} <State state={status.state} badge /></h1>
      <span class="id">{line(status.jobId, 300)}</span>
    </div>
  )
}

function actsOf({ status }: JobView): readonly string[] {
  if (status.result === null) return ['cancel']
  return [...(status.result.status !== 'succeeded' && status.result.branch !== null ? ['checkpoint'] : []), 'start']
}

function Acts({ view, base, token, writable, asked }: JobPageOptions & { readonly view: JobView; readonly asked?: boolean }) {
  const acts = actsOf(view)
  const path = jobPath(base, view.status.jobId)
  const retry = `${path}/retry?seen=${view.status.state}`
  const hidden = <input type="hidden" name="token" value={token} />
  if (!writable) return <div id="acts" class="acts soft"><small>Read-only: start the board with --writable to cancel and retry.</small></div>
  return (
    <div id="acts" class="acts">
      {acts.includes('cancel') ? (
        <details id="cancel" open={asked === true}>
          <summary id="cancel-summary">Cancel…</summary>
          <form method="post" action={`${path}/cancel`}>{hidden}<input id="cancel-reason" name="reason" aria-label="Reason" placeholder="Reason (optional)" maxlength={500} autofocus={asked === true} /><button id="cancel-button" class="danger">Cancel the job</button></form>
        </details>
      ) : null}
      {acts.includes('checkpoint') ? <form method="post" action={retry}>{hidden}<input type="hidden" name="from" value="checkpoint" /><button id="retry-checkpoint">Go on from its checkpoint</button></form> : null}
      {acts.includes('start') ? <form method="post" action={retry}>{hidden}<input type="hidden" name="from" value="start" /><button id="retry-start">Run again</button></form> : null}
    </div>
  )
}

function Why({ view: { status } }: { readonly view: JobView }) {
  const error = status.result?.error ?? null
  return (
    <div id="why">
      {status.reason === null ? null : <p class="note wait"><b aria-hidden="true">○</b> <span>{line(status.reason, 500)}</span></p>}
      {status.checkpointProblem === null ? null : <p class="note wait"><b aria-hidden="true">!</b> <span>{line(status.checkpointProblem, 500)}</span></p>}
      {error === null ? null : <p class="note bad"><b aria-hidden="true">✕</b> <span>{line(error.message, 1_000)} <small>{[error.kind, error.code, error.owner === undefined ? undefined : `fault of: ${error.owner}`].filter((each) => each !== undefined).map((each) => line(each, 60)).join(' · ')}</small></span></p>}
    </div>
  )
}

function Fact({ name, children }: { readonly name: string; readonly children?: Child }) {
  return <div><dt>{name}</dt><dd>{children}</dd></div>
}

function Facts({ view: { status, consumer, run, atMs, attempts } }: { readonly view: JobView }) {
  const { result, cost, enqueuedAtMs, startedAtMs, endedAtMs } = status
  return (
    <section id="facts" class="card" aria-label="At a glance">
      <dl class="facts">
        {result === null ? <Fact name="Step">{line(status.step ?? status.phase ?? '–')}</Fact> : null}
        <Fact name="Provider">{status.provider === null ? '–' : line(status.provider, 60)}{status.sandboxId === null ? null : <small class="b id">{line(status.sandboxId, 60)}</small>}</Fact>
        <Fact name="Ran for">{startedAtMs === null ? 'not begun' : endedAtMs === null ? <Lasting ms={atMs - startedAtMs} /> : took(endedAtMs - startedAtMs)}</Fact>
        <Fact name="Waited">{startedAtMs === null ? <Lasting ms={(endedAtMs ?? atMs) - enqueuedAtMs} /> : took(startedAtMs - enqueuedAtMs)}</Fact>
        <Fact name="Enqueued"><Instant atMs={enqueuedAtMs} /></Fact>
        {endedAtMs === null ? null : <Fact name="Ended"><Instant atMs={endedAtMs} /></Fact>}
        <Fact name="Attempts">{whole(attempts.length)}{run > 1 ? <small> run {whole(run)} of the job</small> : null}</Fact>
        {result === null ? null : <Fact name="Sandbox time">{took(1000 * result.usage.sandboxSeconds)}</Fact>}
        {cost === null ? null : <Fact name="Cost">{money(cost)}</Fact>}
        <Fact name="Tenant">{status.tenant === null ? '–' : line(status.tenant, 100)}</Fact>
        {consumer === null ? null : <Fact name="Consumer"><span class="id">{line(consumer, 60)}</span></Fact>}
      </dl>
    </section>
  )
}

function CourseSection({ course }: { readonly course: Course }) {
  return (
    <section id="course" class="card" aria-labelledby="course-title">
      <h2 id="course-title">Course</h2>
      <CoursePicture course={course} />
      <details id="course-table">
        <summary id="course-summary">As a table</summary>
        <div class="scroll">
          <table>
            <caption>The job’s course, from when its run began</caption>
            <thead><tr><th scope="col" class="num w2">At</th><th scope="col" class="w3">What</th><th scope="col">Which</th><th scope="col" class="num w2">Took</th><th scope="col">Outcome</th></tr></thead>
            <tbody>{course.rows.map(({ at, what, detail, took: lastedFor, outcome }) => <tr><td class="num">{at}</td><th scope="row">{what}</th><td>{detail}</td><td class="num">{lastedFor}</td><td>{line(outcome, 200)}</td></tr>)}</tbody>
          </table>
        </div>
        <More count={course.more} what="entries" />
      </details>
    </section>
  )
}

function Steps({ view: { stepResults, steps, status } }: { readonly view: JobView }) {
  const left = steps.slice(stepResults.length, mostEntries)
  const running = status.state === 'running' && status.step !== null
  return (
    <section id="steps" class="card" aria-labelledby="steps-title">
      <h2 id="steps-title">Steps</h2>
      {stepResults.length + left.length === 0 ? <p class="none">None is known any more.</p> : (
        <table>
          <caption>The job’s steps and how they ended</caption>
          <thead><tr><th scope="col" class="q">Step</th><th scope="col" class="w2">Exit</th><th scope="col" class="num w2">Took</th><th scope="col">Stderr, its end</th></tr></thead>
          <tbody>
            {stepResults.slice(0, mostEntries).map(({ name, exitCode, durationMs, stderrTail }, index) => {
              const said = tail(stderrTail, exitCode === 0 ? 20 : 40, 4_000)
              return (
                <tr>
                  <th scope="row">{line(name)}</th>
                  <td><ExitCode code={exitCode} /></td>
                  <td class="num">{took(durationMs)}</td>
                  <td>{said === '' ? <span class="soft">nothing</span> : <details id={`stderr-${index}`} open={exitCode !== 0}><summary id={`stderr-summary-${index}`}>{counted(said.split('\n').length, 'line')}</summary><pre tabindex={0} aria-label={`stderr of step ${index + 1}`} role="region" dir="auto">{said}</pre></details>}</td>
                </tr>
              )
            })}
            {left.map((name, index) => <tr><th scope="row">{line(name)}</th><td colspan={3}>{running && index === 0 ? <State state="running" /> : <span class="soft">not run</span>}</td></tr>)}
          </tbody>
        </table>
      )}
      <More count={Math.max(stepResults.length, steps.length) - mostEntries} what="steps" />
    </section>
  )
}

function ExitCode({ code }: { readonly code: number | null }) {
  if (code === null) return <span class="wait state"><span aria-hidden="true">–</span> stopped</span>
  return code === 0 ? <span class="good state"><span aria-hidden="true">✓</span> 0</span> : <span class="bad state"><span aria-hidden="true">✕</span> {code}</span>
}

const outcomes: Readonly<Record<string, readonly [sign: string, tone: string]>> = {
  running: ['●', 'now'], succeeded: ['✓', 'good'], failed: ['✕', 'bad'], cancelled: ['–', 'soft'], lost: ['✕', 'bad'], unavailable: ['✕', 'wait'], moved: ['→', 'now'],
}

function Attempts({ view: { attempts, atMs } }: { readonly view: JobView }) {
  const shown = attempts.slice(-mostEntries)
  return (
    <section id="attempts" class="card" aria-labelledby="attempts-title">
      <h2 id="attempts-title">Attempts</h2>
      {attempts.length === 0 ? <p class="none">No sandbox was asked for yet.</p> : (
        <table>
          <caption>The job’s sandboxes</caption>
          <thead><tr><th scope="col" class="num w0">#</th><th scope="col" class="h">Provider</th><th scope="col">Outcome</th><th scope="col" class="num w3">For</th></tr></thead>
          <tbody>
            {shown.map(({ provider, sandboxId, startedAt, endedAt, outcome, error }, index) => {
              const [sign, tone] = outcomes[outcome] ?? ['?', 'soft']
              const forMs = (endedAt === null ? atMs : Date.parse(endedAt)) - Date.parse(startedAt)
              return (
                <tr>
                  <td class="num">{attempts.length - shown.length + index + 1}</td>
                  <th scope="row">{line(provider, 60)}{sandboxId === null ? null : <small class="b id">{line(sandboxId, 60)}</small>}</th>
                  <td><span class={`state ${tone}`}><span aria-hidden="true">{sign}</span> {outcome}</span>{error === null ? null : <small class="b">{line(error.message, 400)}</small>}</td>
                  <td class="num">{endedAt === null ? <Lasting ms={forMs} /> : lasted(forMs)}</td>
                </tr>
              )
            })}
          </tbody>
        </table>
      )}
      <More count={attempts.length - shown.length} what="earlier ones" />
    </section>
  )
}

function Linked({ to, children }: { readonly to: string | null; readonly children?: Child }) {
  return to === null ? <>{children}</> : <a href={to} rel="noopener noreferrer">{children}</a>
}

function Work({ view, links }: { readonly view: JobView; readonly links: Links }) {
  const { status, promoteTo } = view
  const { result, repository, checkpointSha } = status
  if (result === null) {
    return (
      <section id="work" class="card" aria-labelledby="work-title">
        <h2 id="work-title">Work</h2>
        {checkpointSha === null ? <p class="none">Nothing is saved yet.</p> : <p class="none">Last checkpoint <span class="id"><Linked to={links.commit(repository, checkpointSha)}>{line(checkpointSha, 40)}</Linked></span></p>}
        {promoteTo === null ? null : <p class="none">To be promoted to {line(promoteTo)}.</p>}
      </section>
    )
  }
  const { branch, commit, baseSha, promoted, pullRequest, diff, kept, tests, artifacts } = result
  return (
    <section id="work" class="card" aria-labelledby="work-title">
      <h2 id="work-title">Work</h2>
      {branch === null ? <p class="none">Nothing was pushed.</p> : (
        <dl class="facts">
          <Fact name="Branch"><Linked to={links.branch(repository, branch)}>{line(branch, 200)}</Linked></Fact>
          <Fact name="Commit"><span class="id">{commit === null ? '–' : <Linked to={links.commit(repository, commit)}>{line(commit, 40)}</Linked>}</span></Fact>
          {promoted === null ? null : <Fact name="Promoted"><Linked to={links.branch(repository, promoted.to)}>{line(promoted.to, 200)}</Linked> <small>{promoted.result}</small></Fact>}
          {pullRequest === null ? null : <Fact name="Pull request"><Linked to={webLink(pullRequest.url)}>#{pullRequest.number} to {line(pullRequest.base, 100)}</Linked> <small>{pullRequest.action}</small></Fact>}
          {tests === null ? null : <Fact name="Tests">{whole(tests.tests)}{tests.failures + tests.errors === 0 ? null : <span class="bad">, {whole(tests.failures + tests.errors)} failed</span>}{tests.skipped === 0 ? null : `, ${whole(tests.skipped)} skipped`}</Fact>}
        </dl>
      )}
      {diff === null ? null : <Changes diff={diff} patch={view.patch} link={(text) => <Linked to={links.compare(repository, baseSha, commit)}>{text}</Linked>} />}
      <Listed title="Not in the commit" entries={result.unsaved.map(({ path, reason }) => [path, reason])} more={result.unsavedMore} />
      <Listed title="Kept beside it" entries={kept.map(({ branch: name, ref }) => [name, ref])} more={0} />
      <Listed title="Artifacts" entries={artifacts.map(({ path, sizeBytes }) => [path, `${whole(sizeBytes)} bytes`])} more={0} />
    </section>
  )
}

function Listed({ title, entries, more }: { readonly title: string; readonly entries: readonly (readonly [string, string])[]; readonly more: number }) {
  if (entries.length + more === 0) return null
  return (
    <>
      <p class="none"><b>{title}</b></p>
      <ul class="paths">{entries.slice(0, mostEntries).map(([name, about]) => <li dir="auto"><span class="id">{line(name, 200)}</span> <small>{line(about, 200)}</small></li>)}</ul>
      <More count={more + Math.max(0, entries.length - mostEntries)} what="" />
    </>
  )
}

function Output({ view: { output, outputCut } }: { readonly view: JobView }) {
  const said = tail(output, outputLines, 24_000)
  return (
    <section id="output" class="card" aria-labelledby="output-title">
      <h2 id="output-title">Output{outputCut ? <small>its end; <code>switchyard logs</code> has all</small> : null}</h2>
      {said === '' ? <p class="none">It has printed nothing.</p> : <pre tabindex={0} role="region" aria-label="What it printed last" dir="auto">{said}</pre>}
    </section>
  )
}
