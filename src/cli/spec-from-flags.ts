import { readFile } from 'node:fs/promises'
import { InvalidInputError, errorMessage } from '../job/errors.js'

/** The flags of `switchyard enqueue` that describe the job. */
export interface SpecFlags {
  readonly file?: string
  readonly repository?: string
  readonly ref?: string
  readonly setup?: readonly string[]
  readonly step?: readonly string[]
  readonly env?: readonly string[]
  readonly secret?: readonly string[]
  /** False for --no-push. */
  readonly push?: boolean
  readonly message?: string
  readonly promote?: string
  readonly strategy?: string
  readonly pullRequest?: boolean
  readonly pullRequestBase?: string
  readonly pullRequestTitle?: string
  readonly pullRequestBody?: string
  readonly pullRequestDraft?: boolean
  readonly pullRequestLabel?: readonly string[]
  readonly pullRequestReviewer?: readonly string[]
  readonly artifact?: readonly string[]
  readonly prefer?: readonly string[]
  readonly allow?: readonly string[]
  readonly deny?: readonly string[]
  readonly image?: string
  readonly timeout?: string
  readonly delay?: string
  readonly runAt?: string
  readonly attempts?: string
  readonly priority?: string
  readonly idempotencyKey?: string
  readonly tenant?: string
  readonly concurrencyKey?: string
  readonly concurrencyLimit?: string
  readonly concurrencyThen?: string
  readonly event?: readonly string[]
  readonly webhook?: readonly string[]
}

/**
 * Makes a job spec of the flags, laid over the file's where there is one. What it returns is not checked yet: the queue
 * does that, in one place.
 * @throws InvalidInputError for what can't even be put into a spec.
 */
export function specFromFlags(flags: SpecFlags, file: unknown = {}): Record<string, unknown> {
  if (typeof file !== 'object' || file === null || Array.isArray(file)) {
    throw new InvalidInputError('--file: must hold one JSON object, a job; use the producer API for many')
  }
  const spec: Record<string, unknown> = { ...file }
  const set = (key: string, value: unknown) => {
    if (value !== undefined) spec[key] = value
  }
  const merge = (key: string, value: Record<string, unknown>) => {
    const given = Object.entries(value).filter(([, inner]) => inner !== undefined)
    if (given.length === 0) return
    const before = spec[key]
    spec[key] = { ...(typeof before === 'object' && before !== null ? before : {}), ...Object.fromEntries(given) }
  }
  set('repository', flags.repository)
  set('ref', flags.ref)
  set('setup', flags.setup)
  set('steps', flags.step)
  set('secrets', flags.secret)
  set('image', flags.image)
  set('timeout', flags.timeout)
  set('delay', flags.delay)
  set('runAt', flags.runAt)
  set('idempotencyKey', flags.idempotencyKey)
  set('tenant', flags.tenant)
  set('attempts', flags.attempts === undefined ? undefined : wholeNumber('--attempts', flags.attempts))
  set('priority', flags.priority === undefined ? undefined : wholeNumber('--priority', flags.priority))
  merge('concurrency', { key: flags.concurrencyKey, limit: flags.concurrencyLimit === undefined ? undefined : wholeNumber('--concurrency-limit', flags.concurrencyLimit), then: flags.concurrencyThen })
  if (flags.env !== undefined) merge('env', Object.fromEntries(flags.env.map(assignment)))
  if (flags.push === false) {
    if (flags.message !== undefined) throw new InvalidInputError('--message: needs a push; leave out --no-push or --message')
    spec['push'] = false
  } else merge('push', { message: flags.message })
  if (flags.strategy !== undefined && flags.promote === undefined && !('promote' in spec)) {
    throw new InvalidInputError('--strategy: needs --promote BRANCH, the branch to move')
  }
  merge('promote', { to: flags.promote, strategy: flags.strategy, pullRequest: pullRequestOf(flags, spec['promote']) })
  set('artifacts', flags.artifact)
  set('events', flags.event)
  set('webhooks', flags.webhook?.map((text) => webhook(text, flags.event)))
  merge('providers', { prefer: flags.prefer, allow: flags.allow, deny: flags.deny })
  return spec
}

/**
 * Reads a job from a file, or from stdin for `-`.
 * @throws InvalidInputError when it can't be read or is not JSON.
 */
export async function readSpecFile(path: string): Promise<unknown> {
  let text: string
  try {
    text = path === '-' ? await readAll(process.stdin) : await readFile(path, 'utf8')
  } catch (error) {
    throw new InvalidInputError(`--file: ${path} can't be read (${errorMessage(error)})`)
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new InvalidInputError(`--file: ${path === '-' ? 'stdin' : path} is not valid JSON (${errorMessage(error)})`)
  }
}

async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  let text = ''
  stream.setEncoding('utf8')
  for await (const chunk of stream) text += String(chunk)
  return text
}

/** Undefined when no flag asks for one. @param before `promote` of the file, which may have one already. @throws InvalidInputError when there is no branch to request. */
function pullRequestOf(flags: SpecFlags, before: unknown): object | undefined {
  const fields = { base: flags.pullRequestBase, title: flags.pullRequestTitle, body: flags.pullRequestBody, draft: flags.pullRequestDraft, labels: flags.pullRequestLabel, reviewers: flags.pullRequestReviewer }
  const given = Object.entries(fields).filter(([, value]) => value !== undefined)
  if (flags.pullRequest !== true && given.length === 0) return undefined
  if (flags.promote === undefined && before === undefined) throw new InvalidInputError(`--pull-request${flags.pullRequest === true ? '' : `-${given[0]?.[0] === 'labels' ? 'label' : given[0]?.[0] === 'reviewers' ? 'reviewer' : (given[0]?.[0] ?? '')}`}: needs --promote BRANCH, the branch that is to be merged`)
  const own = typeof before === 'object' && before !== null && 'pullRequest' in before && typeof before.pullRequest === 'object' && before.pullRequest !== null ? before.pullRequest : {}
  return { ...own, ...Object.fromEntries(given) }
}

/** @param types what it is to be told of besides the end. */
function webhook(text: string, types: readonly string[] | undefined): Record<string, unknown> {
  const at = text.indexOf('=')
  // What is no name may be the secret itself.
  if (at <= 0 || !/^[A-Za-z_]\w*$/.test(text.slice(0, at))) throw new InvalidInputError('--webhook: must be NAME=URL, the name of the variable that holds its signing secret and where events go, such as --webhook HOOK_SECRET=https://example.com/jobs')
  return { url: text.slice(at + 1), secretName: text.slice(0, at), ...(types === undefined ? {} : { events: [...new Set([...types, 'completed'])] }) }
}

function assignment(text: string): [string, string] {
  const at = text.indexOf('=')
  // The value may be a secret that was given in the wrong way; only the name is repeated.
  if (at <= 0) throw new InvalidInputError('--env: must be NAME=VALUE, such as --env CI=1; for a key use --secret NAME')
  return [text.slice(0, at), text.slice(at + 1)]
}

function wholeNumber(flag: string, text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidInputError(`${flag}: "${text}" must be a whole number`)
  return Number(text)
}
