/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
import { raw } from 'hono/html'
import type { Child } from 'hono/jsx'
import type { Fleet, FleetConsumer, FleetJob, FleetProvider } from '../../job/fleet.js'
import { harmlessLine } from '../../job/harmless-text.js'
import { mayBeJobId } from '../../job/names.js'
import type { OperationName } from '../operate-routes.js'
import { Layout, type Place } from './layout.js'
import { elementId, type Fragment, jobPath, Lasting, markup, Meter, More, State } from './parts.js'
import { instant, line, money, whole } from './text.js'

/**
 * The fleet's page. It is made of fragments, each of which is sent again when what it shows has changed; of the running jobs each row is one, so that
 * a line of output costs a row.
 */
export interface FleetParts {
  readonly queue: Fragment
  readonly summary: Fragment
  readonly attention: Fragment
  readonly providers: Fragment
  readonly waiting: Fragment
  readonly tenants: Fragment
  readonly consumers: Fragment
  readonly running: Fragment
  readonly rows: readonly Fragment[]
  readonly ended: Fragment
}

/** What all visitors of a board have in common: parts are made once for all, and hold no token. */
type Shared = Pick<Place, 'base' | 'writable'>

/** @param fleet as it is; every text in it is made harmless here. */
export function fleetParts(fleet: Fleet, shared: Shared): FleetParts {
  const { atMs } = fleet
  const { base } = shared
  const rows = fleet.running.map((job) => runningRow(job, atMs, shared))
  return {
    queue: part('queue', [fleet.paused], <QueueActs paused={fleet.paused} {...shared} />),
    summary: part('summary', { counts: fleet.counts, places: placesOf(fleet.providers), consumers: fleet.consumers.length + fleet.consumersMore }, <Summary fleet={fleet} />),
    attention: part('attention', [attentionOf(fleet)], <Attention notes={attentionOf(fleet)} />),
    providers: part('providers', fleet.providers, <Providers fleet={fleet} {...shared} />),
    waiting: part('waiting', [fleet.waiting, fleet.counts.waiting, fleet.counts.delayed], <Waiting fleet={fleet} base={base} />),
    tenants: part('tenants', [fleet.tenants, fleet.tenantsMore], <Tenants fleet={fleet} {...shared} />),
    consumers: part('consumers', [fleet.consumers, fleet.consumersMore], <Consumers fleet={fleet} />),
    // Its rows tell by themselves what has changed of them.
    running: part('running', [rows.map(({ id }) => id), fleet.runningMore, fleet.counts.inHand], <Running fleet={fleet} shared={shared} />),
    rows,
    ended: part('ended', fleet.ended, <Ended fleet={fleet} shared={shared} />),
  }
}

/** All of them, the rows behind the table that holds them. */
export function fleetFragments({ rows, ...parts }: FleetParts): Fragment[] {
  return [...Object.values(parts), ...rows]
}

export function FleetPage({ parts, queue, said, live, ...place }: Place & { readonly parts: FleetParts; readonly queue: string; readonly said: string | null; readonly live: string }) {
  return (
    <Layout {...place} title="Fleet · Switchyard" live={live} current="fleet">
      {said === null ? null : <p class="note now" role="status"><span>{line(said, 300)}</span></p>}
      <div class="title">
        <h1>Fleet<small>queue {line(queue, 60)}</small></h1>
        <noscript><a href={`${place.base}/fleet`}>Load again</a></noscript>
        {place.writable ? <OperateForm base={place.base} token={place.token} queue={parts.queue} /> : null}
      </div>
      <Html of={parts.summary} />
      <Html of={parts.attention} />
      <div class="cols">
        <div>
          <Html of={parts.providers} />
          <Html of={parts.waiting} />
          <Html of={parts.tenants} />
          <Html of={parts.consumers} />
        </div>
        <div>
          <Html of={parts.running} />
          <Html of={parts.ended} />
        </div>
      </div>
    </Layout>
  )
}

/**
 * The one form of all buttons on the page, wherever they stand: they name it, and say themselves what is done and to what. So what is sent to all who
 * watch holds no token. Its first button does nothing: Enter in the field would press it.
 */
function OperateForm({ base, token, queue }: { readonly base: string; readonly token: string; readonly queue: Fragment }) {
  return (
    <div class="acts">
      <form id="operate" method="post" action={`${base}/fleet/operate/none`}>
        <button disabled hidden aria-hidden="true"></button>
        <input type="hidden" name="token" value={token} />
        <input id="operate-reason" name="reason" aria-label="Reason, shown to those who wait" placeholder="Reason (optional)" maxlength={200} autocomplete="off" />
      </form>
      <Html of={queue} />
    </div>
  )
}

function Operate({ to, of, label, children, base, writable }: Shared & { readonly to: OperationName; readonly of?: string; readonly label?: string; readonly children?: Child }) {
  // What would not come back as it is in a form's field is for the command line.
  if (!writable || (of !== undefined && (harmlessLine(of) !== of || of.length > 300))) return null
  // The same for both directions: whoever has pressed it by keyboard stays there.
  return <button id={elementId(to.replace(/^[a-z]+/, 'operate'), of ?? '')} class="act" form="operate" formaction={`${base}/fleet/operate/${to}`} name="of" value={of ?? ''} aria-label={label}>{children}</button>
}

function QueueActs({ paused, ...shared }: Shared & { readonly paused: boolean }) {
  return <span id="queue">{paused ? <Operate to="resumeQueue" {...shared}>Resume the queue</Operate> : <Operate to="pauseQueue" {...shared}>Pause the queue</Operate>}</span>
}

function part(id: string, shows: unknown, html: unknown): Fragment {
  return { id, key: JSON.stringify(shows), html: markup(html) }
}

/** What was made of components already, and escaped by them. */
function Html({ of }: { readonly of: Fragment }) {
  return raw(of.html)
}

function placesOf(providers: readonly FleetProvider[]) {
  return { used: providers.reduce((sum, { used }) => sum + used, 0), limit: providers.reduce((sum, { effectiveLimit }) => sum + effectiveLimit, 0) }
}

function Summary({ fleet: { counts, providers, consumers, consumersMore } }: { readonly fleet: Fleet }) {
  const { used, limit } = placesOf(providers)
  return (
    <dl class="sum" id="summary">
      <div><dt>In hand</dt><dd>{whole(counts.inHand)}</dd></div>
      <div><dt>Waiting</dt><dd>{whole(counts.waiting)}</dd></div>
      {counts.delayed === 0 ? null : <div><dt>Delayed</dt><dd>{whole(counts.delayed)}</dd></div>}
      <div><dt>Places</dt><dd>{whole(used)} <small>of {whole(limit)}</small></dd></div>
      <div><dt>Consumers</dt><dd>{whole(consumers.length + consumersMore)}</dd></div>
      <div><dt>Succeeded</dt><dd>{whole(counts.succeeded)} <small>kept</small></dd></div>
      <div><dt>Failed or cancelled</dt><dd>{whole(counts.failed)} <small>kept</small></dd></div>
    </dl>
  )
}

interface Note {
  readonly tone: 'bad' | 'wait'
  readonly sign: string
  readonly text: string
}

/** What an operator has to look at, the worst first. */
function attentionOf({ paused, pausedBy, counts, consumers, queue, providers, tenants }: Fleet): Note[] {
  const bad = (text: string): Note => ({ tone: 'bad', sign: '✕', text })
  const wait = (text: string): Note => ({ tone: 'wait', sign: '!', text })
  const serving = consumers.filter((consumer) => consumer.queue === queue)
  return [
    ...(serving.length === 0 && counts.waiting + counts.inHand > 0 ? [bad(`No consumer is live for this queue: ${whole(counts.waiting + counts.inHand)} jobs wait. Start one.`)] : []),
    ...providers.flatMap((provider) => (provider.breaker === 'open' ? [bad(`${line(provider.provider, 60)} is out: ${outage(provider)}. Jobs go elsewhere meanwhile.`)] : [])),
    ...consumers.flatMap(({ consumer, troubles }) => troubles.map(({ of, message }) => bad(`${line(of, 60)}: the key of ${line(consumer, 60)} is refused: ${line(message, 300)}`))).slice(0, 10),
    ...providers.flatMap(({ provider, drained }) => (drained === null ? [] : [wait(`${line(provider, 60)} is drained ${line(drained, 200)}: it gets no new sandboxes until it is resumed.`)])),
    ...(paused ? [wait(`The queue is paused${pausedBy === null ? '' : ` ${line(pausedBy, 200)}`}: no job is begun until it is resumed.`)] : []),
    ...tenants.flatMap(({ tenant, paused: by }) => (by === null ? [] : [wait(`Tenant ${line(tenant, 60)} is paused ${line(by, 200)}: its waiting jobs wait on.`)])).slice(0, 10),
    ...(serving.length > 0 && serving.every(({ full }) => full) ? [wait('Every consumer has as many jobs as it may have (consumer.maxJobs).')] : []),
  ]
}

function Attention({ notes }: { readonly notes: readonly Note[] }) {
  return (
    <div id="attention">
      {notes.map(({ tone, sign, text }) => <p class={`note ${tone}`}><b aria-hidden="true">{sign}</b> <span>{text}</span></p>)}
    </div>
  )
}

function outage({ openUntilMs, openedBy }: FleetProvider): string {
  const why = { down: 'creates fail', 'data-plane': 'its sandboxes can’t be reached', auth: 'its key is refused', 'rate-limited': 'it is called too often' }[openedBy ?? ''] ?? openedBy ?? 'creates fail'
  return `${line(why, 60)}${openUntilMs === null ? '' : `, tried again at ${instant(openUntilMs).people.slice(11)}`}`
}

function Providers({ fleet: { providers }, ...shared }: Shared & { readonly fleet: Fleet }) {
  return (
    <section id="providers" aria-labelledby="providers-title">
      <h2 id="providers-title">Providers</h2>
      {providers.length === 0 ? <p class="none">None yet: a provider is here once a consumer has asked for a place.</p> : (
        <table>
          <caption>Providers, their places and their state</caption>
          <thead><tr><th scope="col">Provider</th><th scope="col">Places</th><th scope="col" class="opt w1">Start</th><th scope="col">State</th></tr></thead>
          <tbody>{providers.map((provider) => <Provider of={provider} {...shared} />)}</tbody>
        </table>
      )}
    </section>
  )
}

function Provider({ of, ...shared }: Shared & { readonly of: FleetProvider }) {
  const { provider, used, limit, effectiveLimit, limited, foreign, waiting, cpu, cpuLimit, memoryMiB, memoryMiBLimit, startP50Ms } = of
  const learned = effectiveLimit < limit ? `${limit} configured${foreign > 0 ? `, ${foreign} used by others` : ''}` : null
  return (
    <tr>
      <th scope="row">{line(provider, 60)}{waiting > 0 ? <small class="b">{whole(waiting)} wait for it</small> : null}</th>
      <td>
        {whole(used)} of {whole(effectiveLimit)}
        <Meter used={used} of={effectiveLimit} />
        {limited === null ? null : <small class="b">limited {line(limited, 160)}</small>}
        {learned === null ? null : <small class="b">{learned}</small>}
        {cpuLimit === null ? null : <small class="b">{whole(cpu)} of {whole(cpuLimit)} vCPU</small>}
        {memoryMiBLimit === null ? null : <small class="b">{whole(memoryMiB)} of {whole(memoryMiBLimit)} MiB</small>}
      </td>
      <td class="opt">{startP50Ms === null ? <span class="soft">–</span> : `${(startP50Ms / 1000).toFixed(1)} s`}</td>
      <td>
        <ProviderState of={of} />
        {of.drained === null ? <Operate to="drainProvider" of={provider} label={`Drain ${line(provider, 60)}`} {...shared}>Drain</Operate> : <Operate to="resumeProvider" of={provider} label={`Resume ${line(provider, 60)}`} {...shared}>Resume</Operate>}
      </td>
    </tr>
  )
}

function ProviderState({ of }: { readonly of: FleetProvider }) {
  const { breaker, used, effectiveLimit, blockedUntilMs, drained } = of
  if (drained !== null) return <span class="wait"><span aria-hidden="true">‖</span> drained<small class="b">{line(drained, 200)}</small></span>
  if (breaker === 'open') return <span class="bad"><span aria-hidden="true">✕</span> out<small class="b">{outage(of)}</small></span>
  if (breaker !== 'closed') return <span class="wait"><span aria-hidden="true">◐</span> trying<small class="b">one job tries whether it works again</small></span>
  if (blockedUntilMs !== null) return <span class="wait"><span aria-hidden="true">!</span> no creates<small class="b">until {instant(blockedUntilMs).people.slice(11)}</small></span>
  if (used >= effectiveLimit) return <span class="wait"><span aria-hidden="true">●</span> full</span>
  return <span class="good"><span aria-hidden="true">✓</span> takes jobs</span>
}

function Waiting({ fleet: { waiting, counts, atMs }, base }: { readonly fleet: Fleet; readonly base: string }) {
  const all = counts.waiting + counts.delayed
  return (
    <section id="waiting" aria-labelledby="waiting-title">
      <h2 id="waiting-title">Waiting{all > waiting.looked ? <small>why, of the next {waiting.looked}</small> : null}</h2>
      {all === 0 ? <p class="none">Nothing waits.</p> : (
        <>
          <table>
            <caption>Why jobs wait</caption>
            <thead><tr><th scope="col" class="num w1">Jobs</th><th scope="col">Reason</th></tr></thead>
            <tbody>{waiting.reasons.slice(0, 8).map(({ reason, jobs }) => <tr><td class="num">{whole(jobs)}</td><td>{reason === null ? 'about to be taken' : line(reason, 300)}</td></tr>)}</tbody>
          </table>
          <More count={waiting.reasons.length - 8} what="reasons" />
          <details id="waiting-next">
            <summary id="waiting-summary">Next in line</summary>
            <table>
              <caption>Jobs that are next</caption>
              <thead><tr><th scope="col">Job</th><th scope="col" class="num w3">Waits for</th></tr></thead>
              <tbody>
                {waiting.next.map(({ jobId, repository, tenant, enqueuedAtMs }) => (
                  <tr>
                    <th scope="row"><a id={elementId('next', jobId)} href={jobPath(base, jobId)}>{nameOf(repository, jobId)}</a>{tenant === null ? null : <small class="b">{line(tenant, 60)}</small>}</th>
                    <td class="num"><Lasting ms={atMs - enqueuedAtMs} /></td>
                  </tr>
                ))}
              </tbody>
            </table>
          </details>
          <More count={all - waiting.next.length} what={all - waiting.next.length === 1 ? 'job' : 'jobs'} />
        </>
      )}
    </section>
  )
}

function Tenants({ fleet: { tenants, tenantsMore }, ...shared }: Shared & { readonly fleet: Fleet }) {
  const running = tenants.reduce((sum, tenant) => sum + tenant.running, 0)
  const weights = tenants.reduce((sum, tenant) => sum + (tenant.running > 0 ? tenant.weight : 0), 0)
  const share = (part: number, all: number) => (all <= 0 || part <= 0 ? '–' : `${Math.round((100 * part) / all)} %`)
  return (
    <section id="tenants" aria-labelledby="tenants-title">
      <h2 id="tenants-title">Tenants</h2>
      {tenants.length === 0 ? <p class="none">No job names a tenant.</p> : (
        <>
          <table>
            <caption>Tenants, and their shares of what runs</caption>
            <thead><tr><th scope="col" class="h">Tenant</th><th scope="col" class="num">Running</th><th scope="col" class="num">Has now</th><th scope="col" class="num">Is due</th></tr></thead>
            <tbody>
              {tenants.map(({ tenant, running: own, cap, weight, paused }) => (
                <tr>
                  <th scope="row">
                    {line(tenant, 60)}
                    {paused === null ? null : <small class="b wait"><span aria-hidden="true">‖</span> paused {line(paused, 160)}</small>}
                    {paused === null ? <Operate to="pauseTenant" of={tenant} label={`Pause the tenant ${line(tenant, 60)}`} {...shared}>Pause</Operate> : <Operate to="resumeTenant" of={tenant} label={`Resume the tenant ${line(tenant, 60)}`} {...shared}>Resume</Operate>}
                  </th>
                  <td class="num">{whole(own)}{cap === null ? null : <small> of {whole(cap)}</small>}</td>
                  <td class="num">{share(own, running)}</td>
                  <td class="num">{own > 0 ? share(weight, weights) : <small>weight {whole(weight)}</small>}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <More count={tenantsMore} what="tenants" />
        </>
      )}
    </section>
  )
}

function Consumers({ fleet: { consumers, consumersMore, atMs } }: { readonly fleet: Fleet }) {
  const releases = new Set(consumers.map(({ release }) => release))
  return (
    <section id="consumers" aria-labelledby="consumers-title">
      <h2 id="consumers-title">Consumers{releases.size > 1 ? <small>{releases.size} releases at once</small> : null}</h2>
      {consumers.length === 0 ? <p class="none">None is live. Start one with <code>switchyard consume</code>.</p> : (
        <>
          <table>
            <caption>Live consumers, their release and their load</caption>
            <thead><tr><th scope="col">Consumer</th><th scope="col" class="num w2">Jobs</th></tr></thead>
            <tbody>{consumers.map((consumer) => <Consumer of={consumer} atMs={atMs} />)}</tbody>
          </table>
          <More count={consumersMore} what="consumers" />
        </>
      )}
    </section>
  )
}

function Consumer({ of: { consumer, release, queue, providers, jobs, maxJobs, full, draining, startedAtMs, troubles }, atMs }: { readonly of: FleetConsumer; readonly atMs: number }) {
  return (
    <tr>
      <th scope="row">
        <span class="id" title={line(consumer, 100)}>{line(consumer, 26)}</span>
        <small class="b">release {line(release, 40)} · up <Lasting ms={atMs - startedAtMs} /> · queue {line(queue, 40)} · {providers.length === 0 ? 'no provider' : line(providers.slice(0, 8).join(', '), 120)}</small>
        {troubles.length > 0 ? <small class="b bad"><span aria-hidden="true">✕</span> {whole(troubles.length)} refused {troubles.length === 1 ? 'key' : 'keys'}</small> : null}
      </th>
      <td class="num">{jobs === null ? <span class="soft">not told</span> : <>{whole(jobs)}{maxJobs === null ? null : <small> of {whole(maxJobs)}</small>}</>}{draining ? <small class="b wait">draining</small> : full ? <small class="b wait">full</small> : null}</td>
    </tr>
  )
}

function Running({ fleet, shared }: { readonly fleet: Fleet; readonly shared: Shared }) {
  const { running, runningMore, counts, atMs } = fleet
  return (
    <section id="running" aria-labelledby="running-title">
      <h2 id="running-title">Running<small>{whole(counts.inHand)}</small></h2>
      {running.length === 0 ? <p class="none">{counts.waiting === 0 ? 'Nothing runs, and nothing waits. Enqueue a job to see it here.' : 'Nothing runs.'}</p> : (
        <>
          <table class="running" role="table">
            <caption>Running jobs, those that began first before others</caption>
            <thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col" class="q">Job</th><th role="columnheader" scope="col" class="q">Where it stands</th><th role="columnheader" scope="col" class="w3">For</th><th role="columnheader" scope="col">Its last line</th></tr></thead>
            <tbody role="rowgroup">{running.map((job) => <Row job={job} atMs={atMs} {...shared} />)}</tbody>
          </table>
          <More count={runningMore} what="running jobs" />
        </>
      )}
    </section>
  )
}

function runningRow(job: FleetJob, atMs: number, shared: Shared): Fragment {
  return { ...part(elementId('job', job.jobId), { ...job, cost: job.cost === null ? null : Math.floor(job.cost.micros / 10_000) }, <Row job={job} atMs={atMs} {...shared} />), within: 'running' }
}

function Row({ job, atMs, base, writable }: Shared & { readonly job: FleetJob; readonly atMs: number }) {
  const { jobId, repository, tenant, step, phase, provider, attempt, reason, startedAtMs, enqueuedAtMs, cost, lastLine } = job
  const where = [provider === null ? null : line(provider, 60), attempt > 1 ? `attempt ${attempt}` : null].filter((each) => each !== null).join(' · ')
  return (
    <tr id={elementId('job', jobId)} role="row">
      <th scope="row" role="rowheader">
        <a id={elementId('link', jobId)} href={jobPath(base, jobId)}>{nameOf(repository, jobId)}</a>
        <small class="b"><span class="id">{line(jobId, 24)}</span>{tenant === null ? '' : ` · ${line(tenant, 40)}`}</small>
      </th>
      <td class="where" role="cell">
        {reason === null ? <span class="now"><span aria-hidden="true">●</span> {line(standing(phase, step), 120)}</span> : <span class="wait why" title={line(reason, 500)}><span aria-hidden="true">○</span> {line(reason, 200)}</span>}
        {where === '' ? null : <small class="b">{where}</small>}
      </td>
      <td class="for" role="cell"><Lasting ms={atMs - (startedAtMs ?? enqueuedAtMs)} />{cost === null ? null : <small class="b">{money(cost)}</small>}{writable && mayBeJobId(jobId) ? <a id={elementId('cancel', jobId)} class="b small" href={`${jobPath(base, jobId)}?ask=cancel`}>Cancel…</a> : null}</td>
      <td class="out" role="cell"><span class="last" dir="auto">{line(lastLine, 300)}</span></td>
    </tr>
  )
}

const phases: Readonly<Record<string, string>> = { placing: 'gets a sandbox', preparing: 'clones', setup: 'sets up', pushing: 'pushes', promoting: 'promotes', closing: 'closes' }

function standing(phase: string | null, step: string | null): string {
  if (phase === 'steps' && step !== null) return step
  return phase === null ? 'taken' : (phases[phase] ?? phase)
}

function Ended({ fleet: { ended, atMs }, shared: { base, writable } }: { readonly fleet: Fleet; readonly shared: Shared }) {
  return (
    <section id="ended" aria-labelledby="ended-title">
      <h2 id="ended-title">Ended lately</h2>
      {ended.length === 0 ? <p class="none">No job has ended yet, or none is kept.</p> : (
        <table>
          <caption>The last jobs that ended</caption>
          <thead><tr><th scope="col" class="h">Job</th><th scope="col">How</th><th scope="col" class="num opt w3">Ago</th></tr></thead>
          <tbody>
            {ended.map(({ jobId, repository, status, reason, endedAtMs }) => (
              <tr>
                <th scope="row"><a id={elementId('ended', jobId)} href={jobPath(base, jobId)}>{nameOf(repository, jobId)}</a><small class="b id">{line(jobId, 24)}</small></th>
                <td><State state={status} />{reason === null ? null : <small class="b">{line(reason, 200)}</small>}{writable && status !== 'succeeded' && mayBeJobId(jobId) ? <button id={elementId('again', jobId)} class="act" form="operate" formaction={`${jobPath(base, jobId)}/retry?seen=${status}`} name="from" value="start" aria-label={`Run ${line(jobId, 60)} again`}>Run again</button> : null}</td>
                <td class="num opt" title={instant(endedAtMs).people}><Lasting ms={atMs - endedAtMs} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  )
}

/** Jobs that were added by hand may have any name, or none. */
function nameOf(repository: string, jobId: string): string {
  const name = line(repository, 80)
  return name.trim() === '' ? line(jobId, 60) : name
}


