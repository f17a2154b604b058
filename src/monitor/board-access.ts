import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { Hono, type Context, type MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { getCookie, setCookie } from 'hono/cookie'
import { LoginPage } from './pages/layout.js'
import { markup } from './pages/parts.js'
import type { BoardOperator } from './source.js'

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
  /** The path below which the monitor is, such as `/ops`; empty for none. */
  readonly base?: string
}

export interface BoardAccess {
  /** The path with which a browser gets a session, below the board's URL. Holds a secret. */
  readonly loginPath: string
  /** `/login`, to be mounted before `guard`. */
  readonly routes: Hono
  /** Lets only those through who have a session or the password. */
  readonly guard: MiddlewareHandler
  /** What a form of this visitor's page sends as `token`; empty for one that bears the password with each request. */
  readonly tokenFor: (context: Context) => string
  /** Who this visitor is, behind `guard`. */
  readonly operatorFor: (context: Context) => BoardOperator
}

/** Of whoever nothing more is known than that the board let him in. */
export const someone: BoardOperator = { id: 'board', name: '' }

const sessionMs = 12 * 60 * 60 * 1000
/** So many wrong passwords at once, and then one more every `triesRefillMs`. */
const wrongTries = 10
const triesRefillMs = 6_000
/** Of the form's body. */
const longestForm = 4_096

export function boardAccess({ username, password, now, base = '' }: BoardAccessOptions): BoardAccess {
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
  const loginPage = (problem: string) => `<!doctype html>${markup(LoginPage({ base, problem }))}`

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
    return context.redirect(`${base}/`, 303)
  })
  // By what arrives, not by what a stranger says will.
  routes.post('/login', bodyLimit({ maxSize: longestForm, onError: (context) => context.text('The form is too large.', 413) }), async (context) => {
    const form = new URLSearchParams(await context.req.text())
    const right = tryPassword(form.get('username') ?? '', form.get('password') ?? '')
    if (right === null) return tooMany(context)
    if (!right) return context.html(loginPage('User name or password is wrong.'), 401)
    begin(context, newSession())
    return context.redirect(`${base}/`, 303)
  })

  const guard: MiddlewareHandler = async (context, next) => {
    const session = getCookie(context, cookieName(context))
    if (isSession(session)) {
      const reads = ['GET', 'HEAD'].includes(context.req.method)
      if (!reads && !equal(context.req.header('x-xsrf-token') ?? (await formToken(context)), seal(`token ${session}`))) {
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
      return context.redirect(`${base}/login`, 303)
    }
    context.header('www-authenticate', 'Basic realm="Switchyard"')
    return context.text('The board asks for a user name and a password.', 401)
  }

  const tokenFor = (context: Context) => {
    const session = getCookie(context, cookieName(context))
    return isSession(session) ? seal(`token ${session}`) : ''
  }

  const operator: BoardOperator = { ...someone, name: username }
  return { loginPath: `login?key=${linkKey}`, routes, guard, tokenFor, operatorFor: () => operator }
}

/** The token in a form of our own pages. What is no form, or larger than one, has none. */
async function formToken(context: Context): Promise<string> {
  if (context.req.header('content-type')?.startsWith('application/x-www-form-urlencoded') !== true) return ''
  if (!(Number(context.req.header('content-length')) <= longestForm)) return ''
  return new URLSearchParams(await context.req.text()).get('token') ?? ''
}

/** Compares without telling by its time how much is alike. */
function equal(left: string, right: string): boolean {
  const digest = (text: string) => createHmac('sha256', 'equal').update(text).digest()
  return timingSafeEqual(digest(left), digest(right))
}

/** Whether a request may look, and if that is known who sends it. */
export type Authenticate = (request: Request) => boolean | BoardOperator | Promise<boolean | BoardOperator>

/** Those whom an application knows may look. Changes are told apart from other sites' by where they come from. */
export function visitorAccess(authenticate: Authenticate): BoardAccess {
  const known = new WeakMap<Request, BoardOperator>()
  const guard: MiddlewareHandler = async (context, next) => {
    // Whatever an application without types may answer.
    const visitor: unknown = await authenticate(context.req.raw)
    if (isOperator(visitor)) known.set(context.req.raw, visitor)
    else if (visitor !== true) return context.text('You may not look at this; log in to the application that it is part of.', 401)
    await next()
    return undefined
  }
  return { loginPath: '', routes: new Hono(), guard, tokenFor: () => '', operatorFor: ({ req }) => known.get(req.raw) ?? someone }
}

function isOperator(visitor: unknown): visitor is BoardOperator {
  return typeof visitor === 'object' && visitor !== null && 'id' in visitor && 'name' in visitor && typeof visitor.id === 'string' && typeof visitor.name === 'string'
}
