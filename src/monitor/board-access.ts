import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { Hono, type Context, type MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { getCookie, setCookie } from 'hono/cookie'
import { html } from 'hono/html'

/**
 * Who may look at the board.
 *
 *   stranger ──the link, or the form with the password──► session (a cookie, until `sessionMs` later) ──► pages, changes with a token
 *      └──────the password with each request (Basic, for scripts)──────────────────────────────────────► pages, changes
 *
 * A job's sandbox may share this machine's loopback, so an address that only this machine reaches is no wall. Wrong passwords are
 * counted over all who try: tries from one machine all look alike.
 */
export interface BoardAccessOptions {
  readonly username: string
  readonly password: string
  /** Milliseconds since 1970. */
  readonly now: () => number
}

export interface BoardAccess {
  /** The path with which a browser gets a session, below the board's URL. Holds a secret. */
  readonly loginPath: string
  /** `/login`, to be mounted before `guard`. */
  readonly routes: Hono
  /** Lets only those through who have a session or the password. */
  readonly guard: MiddlewareHandler
}

const sessionMs = 12 * 60 * 60 * 1000
/** So many wrong passwords at once, and then one more every `triesRefillMs`. */
const wrongTries = 10
const triesRefillMs = 6_000
/** Of the form's body. */
const longestForm = 4_096

export function boardAccess({ username, password, now }: BoardAccessOptions): BoardAccess {
  const key = randomBytes(32)
  const linkKey = randomBytes(24).toString('base64url')
  let tries = wrongTries
  let countedAtMs = now()

  const seal = (text: string) => createHmac('sha256', key).update(text).digest('base64url')
  const newSession = () => {
    const body = `${now() + sessionMs}.${randomBytes(16).toString('base64url')}`
    return `${body}.${seal(body)}`
  }
  const isSession = (value: string | undefined): value is string => {
    const parts = value?.split('.') ?? []
    const [untilMs = '', id = '', seen = ''] = parts
    return parts.length === 3 && equal(seen, seal(`${untilMs}.${id}`)) && Number(untilMs) > now()
  }

  /** @returns whether the password is right, or null when it is not looked at because too many were wrong. */
  function tryPassword(name: string, text: string): boolean | null {
    const sinceMs = Math.max(0, now() - countedAtMs)
    tries = Math.min(wrongTries, tries + sinceMs / triesRefillMs)
    countedAtMs = now()
    if (tries < 1) return null
    const right = [equal(name, username), equal(text, password)].every(Boolean)
    if (!right) tries -= 1
    return right
  }

  /** Cookies are sent to every port of a host, so the name tells the boards of one host apart. */
  const cookieName = (context: Context) => `switchyard_board_${new URL(context.req.url).port}`

  function begin(context: Context, session: string): void {
    const untilMs = Number(session.split('.')[0])
    setCookie(context, cookieName(context), session, { httpOnly: true, sameSite: 'Strict', path: '/', maxAge: Math.max(0, Math.floor((untilMs - now()) / 1000)) })
    // The board's page reads this one and sends it back in a header with every change, which no other site's page can.
    setCookie(context, 'XSRF-TOKEN', seal(`token ${session}`), { sameSite: 'Strict', path: '/' })
  }

  function tooMany(context: Context): Response {
    context.header('retry-after', String(Math.ceil(triesRefillMs / 1000)))
    return context.text('Too many wrong passwords; wait a few seconds, or use the link that was printed with the URL.', 429)
  }

  const routes = new Hono()
  routes.get('/login', (context) => {
    const link = context.req.query('key')
    if (link === undefined) return context.html(loginPage(''))
    if (!equal(link, linkKey)) return context.html(loginPage('This link is not this board’s: it is made anew at each start.'), 403)
    begin(context, newSession())
    return context.redirect('/', 303)
  })
  // By what arrives, not by what a stranger says will.
  routes.post('/login', bodyLimit({ maxSize: longestForm, onError: (context) => context.text('The form is too large.', 413) }), async (context) => {
    const form = new URLSearchParams(await context.req.text())
    const right = tryPassword(form.get('username') ?? '', form.get('password') ?? '')
    if (right === null) return tooMany(context)
    if (!right) return context.html(loginPage('User name or password is wrong.'), 401)
    begin(context, newSession())
    return context.redirect('/', 303)
  })

  const guard: MiddlewareHandler = async (context, next) => {
    const session = getCookie(context, cookieName(context))
    if (isSession(session)) {
      const reads = ['GET', 'HEAD'].includes(context.req.method)
      if (!reads && !equal(context.req.header('x-xsrf-token') ?? '', seal(`token ${session}`))) {
        return context.text('This change bears no token of the board’s own page; load the page again.', 403)
      }
      // Another board on this host may have set its own.
      if (reads) begin(context, session)
      await next(); return;
    }
    const basic = /^Basic ([A-Za-z0-9+/=]+)$/.exec(context.req.header('authorization') ?? '')?.[1]
    if (basic !== undefined) {
      const [, name = '', text = ''] = /^([^:]*):(.*)$/s.exec(Buffer.from(basic, 'base64').toString()) ?? []
      const right = tryPassword(name, text)
      if (right === null) return tooMany(context)
      if (right) { await next(); return; }
    } else if (context.req.method === 'GET' && context.req.header('accept')?.includes('text/html') === true) {
      return context.redirect('/login', 303)
    }
    context.header('www-authenticate', 'Basic realm="Switchyard"')
    return context.text('The board asks for a user name and a password.', 401)
  }

  return { loginPath: `login?key=${linkKey}`, routes, guard }
}

/** Compares without telling by its time how much is alike. */
function equal(left: string, right: string): boolean {
  const digest = (text: string) => createHmac('sha256', 'equal').update(text).digest()
  return timingSafeEqual(digest(left), digest(right))
}

function loginPage(problem: string) {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>Switchyard</title>
        <style>
          :root { color-scheme: light dark }
          body { font: 16px system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 0 }
          form { display: grid; gap: 0.75rem; width: min(20rem, 90vw) }
          input, button { font: inherit; padding: 0.5rem; width: 100%; box-sizing: border-box }
          h1 { font-size: 1.25rem; margin: 0 }
        </style>
      </head>
      <body>
        <form method="post" action="/login">
          <h1>Switchyard</h1>
          ${problem === '' ? '' : html`<p role="alert">${problem}</p>`}
          <label>User name <input name="username" autocomplete="username" required autofocus /></label>
          <label>Password <input name="password" type="password" autocomplete="current-password" required /></label>
          <button>Log in</button>
        </form>
      </body>
    </html>`
}
