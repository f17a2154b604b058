/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
import type { Child } from 'hono/jsx'
import { assetsVersion } from './assets.js'

/** What a page needs to know of where it stands. */
export interface Place {
  /** The path below which the monitor is, without a slash at its end: empty, or such as `/ops`. */
  readonly base: string
  /** Whether the visitor may change anything. */
  readonly writable: boolean
  /** Goes along with every form. */
  readonly token: string
}

export interface Page extends Place {
  readonly title: string
  /** Where the page's changes come from; null for a page that has none. */
  readonly live: string | null
  readonly current?: 'fleet' | undefined
  readonly children?: Child
}

/** A whole page, with the bar at its top. */
export function Layout({ base, title, live, current, children }: Page) {
  return (
    <html lang="en">
      <Head base={base} title={title} />
      <body data-live={live ?? undefined}>
        <a class="skip" href="#main">Skip to the content</a>
        <header class="top">
          <span class="brand">Switchyard</span>
          <nav class="top" aria-label="Pages">
            <a href={`${base}/fleet`} aria-current={current === 'fleet' ? 'page' : undefined}>Fleet</a>
            <a href={`${base}/`}>Queues</a>
          </nav>
          <form class="find" method="get" action={`${base}/fleet/find`} role="search">
            <input name="job" aria-label="Job id" placeholder="Job id" required maxlength={300} autocomplete="off" />
            <button>Find</button>
          </form>
          {live === null ? null : <span id="live" class="live" role="status">As of the last load</span>}
        </header>
        <main id="main" tabindex={-1}>{children}</main>
        {live === null ? null : <script type="module" src={`${base}/fleet/live.js?${assetsVersion}`}></script>}
      </body>
    </html>
  )
}

export function Head({ base, title }: { readonly base: string; readonly title: string }) {
  return (
    <head>
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width, initial-scale=1" />
      <meta name="color-scheme" content="light dark" />
      <title>{title}</title>
      <link rel="icon" href="data:," />
      <link rel="stylesheet" href={`${base}/fleet/style.css?${assetsVersion}`} />
    </head>
  )
}

/** A page with nothing but a sentence. */
export function Sentence({ title, text, ...place }: Place & { readonly title: string; readonly text: string }) {
  return (
    <Layout {...place} title={`${title} · Switchyard`} live={null}>
      <div class="title"><h1>{title}</h1></div>
      <p>{text}</p>
      <p><a href={`${place.base}/fleet`}>To the fleet</a></p>
    </Layout>
  )
}

/** Where a visitor without a session is asked for the password. */
export function LoginPage({ base, problem }: { readonly base: string; readonly problem: string }) {
  return (
    <html lang="en">
      <Head base={base} title="Log in · Switchyard" />
      <body>
        <main>
          <form class="login" method="post" action={`${base}/login`}>
            <h1>Switchyard</h1>
            {problem === '' ? null : <p class="bad" role="alert">{problem}</p>}
            <label>User name <input name="username" autocomplete="username" required autofocus /></label>
            <label>Password <input name="password" type="password" autocomplete="current-password" required /></label>
            <button>Log in</button>
          </form>
        </main>
      </body>
    </html>
  )
}
