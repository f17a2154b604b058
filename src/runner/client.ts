import { setMaxListeners } from 'node:events'
import { Readable } from 'node:stream'
import { artifactArguments, artifactContents, artifactGroups, artifactListing, artifactPieces, smallArtifactBytes } from './artifacts.js'
import { MalformedAnswer, mostBytes, mostCommits, numberField, shaField, textField, type Answer } from './answer.js'
import { RunnerCalls, maxEntryBytes, nothing, type Call, type RunnerOptions } from './calls.js'
import { unfitImage } from './failures.js'
import { gitIn, installPackages, lackingIn, type Package } from './packages.js'
import { lookOnly, outputSlice, readArguments, readMarginMs } from './reading.js'
import { bringLfsObject, lfsEnvironment, lfsObjectsOf } from './lfs.js'
import { bringPack, sendPack } from './packs.js'
import type { CloneResult, InstallOptions, ListedArtifact, OutputSlice, ReadRequest, RestoreRequest, RestoreResult, Runner, RunnerCallOptions, SandboxAccess, SandboxFacts, StepCommand } from './runner.js'
import { notesOf, saveReport } from './report.js'
import { callText, uploadPieceBytes } from './script.js'

const keyPattern = /^[A-Za-z0-9][A-Za-z0-9.-]{0,199}$/
const environmentName = /^[A-Za-z_][A-Za-z0-9_]*$/
const shaPattern = /^[0-9a-f]{40}$/

/**
 * The runner's client for one sandbox. It holds no state but what it was made with, so any number of them, in any number
 * of consumers, may serve the same sandbox.
 *
 * Every method throws only `InfrastructureError` (or the reason of an aborted signal). `transient` errors were tried again
 * before, within the call's `timeoutMs`; a provider that did not answer in time counts as one of them, never as the job's
 * own `timeout`. No message holds a secret.
 */
export function createRunner(options: RunnerOptions): Runner {
  return new SandboxRunner(options)
}

class SandboxRunner implements Runner {
  readonly #options: RunnerOptions
  readonly #calls: RunnerCalls

  constructor(options: RunnerOptions) {
    this.#options = options
    this.#calls = new RunnerCalls(options)
  }

  async install(options: InstallOptions): Promise<SandboxFacts> {
    const call: Call = { verb: 'probe', args: this.#options.provider.capabilities.sharedSystem === true ? [] : ['place'] }
    const probe = () => this.#calls.retried(call, options, (left) => this.#calls.installWith(call, left), (said) => ({ answer: said, facts: sandboxFacts(said) }))
    let { answer, facts } = await probe()
    const tool = answer.fields.get('missing')?.slice(0, 40)
    if (tool !== undefined) throw unfitImage(this.#calls.context(call), tool)
    const lacking = lackingIn(answer, options.certificates)
    let installed: string | null = null
    if (lacking.length > 0) {
      const manager = await this.#provide(call, lacking, options)
      installed = `${lacking.join(' and ')} with ${manager}`
      ;({ answer, facts } = await probe())
      const still = lackingIn(answer, options.certificates)[0]
      if (still !== undefined) throw unfitImage(this.#calls.context(call), still, `${manager} installed it, but not where it is found`)
    }
    return { ...facts, installed }
  }

  /** Installs what the image lacks. @returns the package manager's name. */
  async #provide(call: Call, lacking: readonly Package[], { packages, signal }: InstallOptions): Promise<string> {
    const missing = lacking[0] ?? 'git'
    if (packages?.install !== true) throw unfitImage(this.#calls.context(call), missing, packages?.because)
    // Steps run in the work tree; the clone, which comes later, begins with an empty one.
    const bounds = { timeoutMs: packages.timeoutMs, signal }
    await this.#calls.again({ verb: 'install', args: [] }, bounds, (left) => this.#calls.exec('mkdir -p "$HOME/repository"', undefined, left))
    const installation = await installPackages(this, lacking, bounds, this.#options.now ?? Date.now)
    if (!installation.ok) throw unfitImage(this.#calls.context(call), missing, installation.because)
    return installation.manager
  }

  async clone(request: Parameters<Runner['clone']>[0], options: RunnerCallOptions): Promise<CloneResult> {
    const { access, ref, sha, branch, checkpoint, pack, paths = [], lfs } = request
    this.#checkSha('sha', sha)
    for (const field of ['headSha', 'baseSha'] as const) if (checkpoint !== null) this.#checkSha(`checkpoint.${field}`, checkpoint[field])
    const args = [access.url, sha, branch, ref ?? '-', checkpoint?.headSha ?? '-', checkpoint?.baseSha ?? '-', pack?.name ?? '-', limitOf(options), ...paths]
    const call: Call = { verb: 'clone', args, ...withAccess(access, lfsEnvironment(lfs)) }
    const deadline = this.#calls.deadline(options)
    if (pack !== undefined) {
      // Many calls at once listen to it: Node takes more than ten listeners on one signal for a leak.
      const signal = AbortSignal.any(options.signal === undefined ? [] : [options.signal])
      setMaxListeners(0, signal)
      await sendPack(pack, {
        pieceBytes: uploadPieceBytes(this.#calls.maxTextBytes),
        put: (id, text) => this.#calls.again(call, this.#calls.until(deadline, { ...options, signal }), (left) => this.#calls.put(call, id, text, left)),
      })
    }
    return this.#calls.call(call, this.#calls.until(deadline, options), (answer) => ({ notes: notesOf(answer) }))
  }

  async start(command: StepCommand, options: RunnerCallOptions, read: ReadRequest = lookOnly): Promise<OutputSlice> {
    this.#checkKey(command.key)
    const env: Record<string, string> = {}
    for (const [name, value] of Object.entries(command.env)) {
      if (!environmentName.test(name)) throw this.#calls.invalid(`env: "${name}" is no name of an environment variable`)
      const bytes = Buffer.byteLength(value) + Buffer.byteLength(name)
      if (bytes > maxEntryBytes) {
        throw this.#calls.invalid(`env.${name} is ${bytes} bytes; no process can be given more than ${maxEntryBytes} in one variable, so put it into a file`)
      }
      env[`SWITCHYARD_ENV_${name}`] = value
    }
    const args = (run: string) => [...readArguments(read, options), command.key, command.cwd ?? '', run, ...Object.keys(command.env)]
    const inline = args(Buffer.from(command.run).toString('base64'))
    const short = Buffer.byteLength(callText('0'.repeat(16), 'start', inline)) <= this.#calls.maxTextBytes
    const call: Call = { verb: 'start', args: short ? inline : args('-'), env }
    const attempt = async (left: RunnerCallOptions) => {
      if (!short) await this.#calls.upload(call, `${command.key}.run`, Buffer.from(command.run), left)
      return this.#calls.onceInstalled(call, left)
    }
    return this.#calls.retried(call, options, attempt, (answer) => outputSlice(answer, read))
  }

  async read(key: string, request: ReadRequest, options: RunnerCallOptions): Promise<OutputSlice> {
    this.#checkKey(key)
    const args = readArguments(request, options)
    const call: Call = { verb: 'read', args: [key, ...args] }
    const attempt = (left: RunnerCallOptions) => this.#calls.onceInstalled(call, { ...left, timeoutMs: Math.min(left.timeoutMs, Number(args[2]) + readMarginMs) })
    return this.#calls.retried(call, options, attempt, (answer) => outputSlice(answer, request))
  }

  async stop(key: string, graceMs: number, options: RunnerCallOptions): Promise<void> {
    this.#checkKey(key)
    await this.#calls.call({ verb: 'stop', args: [key, String(Math.round(graceMs))] }, options, nothing)
  }

  async restore({ paths = [], env = {} }: RestoreRequest, options: RunnerCallOptions): Promise<RestoreResult> {
    const names = gitNames.filter((name) => env[name] !== undefined)
    const call: Call = { verb: 'restore', args: [limitOf(options), names.join(' '), ...paths], env: Object.fromEntries(names.map((name) => [`SWITCHYARD_ENV_${name}`, env[name] ?? ''])) }
    return this.#calls.call(call, options, (answer) => ({ restored: textField(answer, 'restored', /^[01]$/) === '1', pathsRestored: numberField(answer, 'paths') > 0, notes: notesOf(answer) }))
  }

  async checkpoint(request: Parameters<Runner['checkpoint']>[0], options: RunnerCallOptions): ReturnType<Runner['checkpoint']> {
    const { parent, baseSha, identity, message, nestedRepositories = 'files', maxPathsBytes = defaultMaxPathsBytes, paths = [] } = request
    this.#checkSha('parent', parent)
    this.#checkSha('baseSha', baseSha)
    const args = [parent, baseSha, words(identity.name, identity.email, message), limitOf(options), nestedRepositories, String(maxPathsBytes), ...paths]
    const call: Call = { verb: 'checkpoint', args }
    return this.#calls.call(call, options, (answer) => {
      if (answer.fields.has('none')) {
        request.onUnchanged?.(saveReport(answer))
        return null
      }
      const plain = { sha: shaField(answer, 'plain'), headSha: shaField(answer, 'plain-head'), commitsAhead: numberField(answer, 'plain-ahead', mostCommits) }
      return {
        sha: shaField(answer, 'sha'),
        headSha: headOf(answer),
        commitsAhead: numberField(answer, 'ahead', mostCommits),
        descends: textField(answer, 'descends', /^[01]$/) === '1',
        holdsPaths: numberField(answer, 'paths') > 0,
        bytes: numberField(answer, 'bytes', mostBytes),
        plain,
        ...saveReport(answer),
      }
    })
  }

  async commit(request: Parameters<Runner['commit']>[0], options: RunnerCallOptions): ReturnType<Runner['commit']> {
    const { author, committer, nestedRepositories = 'files' } = request
    const said = words(author.name, author.email, committer.name, committer.email, request.message)
    const args = [String(request.dateSeconds), said, limitOf(options), nestedRepositories]
    const call: Call = { verb: 'commit', args }
    return this.#calls.call(call, options, (answer) => ({
      sha: shaField(answer, 'sha'),
      headSha: headOf(answer),
      descends: textField(answer, 'descends', /^[01]$/) === '1',
      plainSha: shaField(answer, 'plain'),
      ...saveReport(answer),
    }))
  }

  async push(request: Parameters<Runner['push']>[0], options: RunnerCallOptions): Promise<void> {
    this.#checkSha('sha', request.sha)
    await this.#calls.call({ verb: 'push', args: [request.access.url, request.branch, request.sha], ...withAccess(request.access) }, options, nothing)
  }

  async lfsObjects(sha: string, options: RunnerCallOptions): ReturnType<Runner['lfsObjects']> {
    this.#checkSha('sha', sha)
    const call: Call = { verb: 'lfs', args: [sha] }
    return this.#calls.call(call, options, (answer) => lfsObjectsOf(answer, this.#options.provider.name))
  }

  async readLfsObject(object: Parameters<Runner['readLfsObject']>[0], write: (piece: Buffer) => Promise<void>, options: RunnerCallOptions): Promise<void> {
    const deadline = this.#calls.deadline(options)
    await bringLfsObject(object, write, {
      source: this.#options.provider.name,
      call: (verb, args, read) => this.#calls.call({ verb, args }, this.#calls.until(deadline, options), read),
    })
  }

  async lfsSent(oids: readonly string[], options: RunnerCallOptions): Promise<void> {
    const deadline = this.#calls.deadline(options)
    for (let first = 0; first < oids.length; first += oidsAtOnce) await this.#calls.call({ verb: 'lfs-sent', args: oids.slice(first, first + oidsAtOnce) }, this.#calls.until(deadline, options), nothing)
  }

  async withholdLfs(oids: readonly string[], options: RunnerCallOptions): Promise<void> {
    const deadline = this.#calls.deadline(options)
    for (let first = 0; first < oids.length; first += oidsAtOnce) await this.#calls.call({ verb: 'lfs-withhold', args: oids.slice(first, first + oidsAtOnce) }, this.#calls.until(deadline, options), nothing)
  }

  async pack(request: Parameters<Runner['pack']>[0], options: RunnerCallOptions): ReturnType<Runner['pack']> {
    for (const field of ['sha', 'baseSha', 'parentSha'] as const) this.#checkSha(field, request[field])
    const deadline = this.#calls.deadline(options)
    const parts: Parameters<typeof bringPack>[1] = {
      source: this.#options.provider.name,
      call: (verb, args, read) => this.#calls.call({ verb, args }, this.#calls.until(deadline, options), read),
    }
    return bringPack(request, parts)
  }

  async listArtifacts({ patterns, most }: Parameters<Runner['listArtifacts']>[0], options: RunnerCallOptions): ReturnType<Runner['listArtifacts']> {
    const call: Call = { verb: 'artifacts', args: [limitOf(options), String(most), ...artifactArguments(patterns)] }
    return this.#calls.call(call, options, (answer) => artifactListing(answer, patterns, most, options.signal))
  }

  async readArtifacts(files: Parameters<Runner['readArtifacts']>[0], take: Parameters<Runner['readArtifacts']>[1], options: RunnerCallOptions): Promise<void> {
    const deadline = this.#calls.deadline(options)
    // One call that is never answered takes a part of the time, and not all of it.
    const callMs = Math.min(longestArtifactCallMs, options.timeoutMs / 4)
    const left = (): RunnerCallOptions => {
      const until = this.#calls.until(deadline, options)
      return { ...until, timeoutMs: Math.min(until.timeoutMs, callMs) }
    }
    const isSmall = ({ sizeBytes }: ListedArtifact) => sizeBytes <= smallArtifactBytes
    // Each by itself says what is wrong with it.
    const byPieces = files.filter((each) => !isSmall(each))
    for (const group of artifactGroups(files.filter(isSmall), this.#calls.maxTextBytes)) {
      const call: Call = { verb: 'artifacts-read', args: [limitOf(left()), ...group.flatMap(({ path, sizeBytes }) => [String(sizeBytes), path])] }
      const contents = await this.#calls.call(call, left(), (answer) => artifactContents(answer, group))
      for (const [index, file] of group.entries()) {
        const content = contents[index] ?? null
        if (content === 'unfinished') byPieces.push(file)
        else await take(file, onePiece(content))
      }
    }
    for (const file of byPieces) {
      const call = (block: number, blocks: number): Call => ({ verb: 'artifacts-piece', args: [limitOf(left()), String(block), String(blocks), file.path] })
      const pieces = artifactPieces(file, this.#options.provider.name, (block, blocks, read) => this.#calls.call(call(block, blocks), left(), read))
      await take(file, pieces)
    }
  }

  #checkKey(key: string): void {
    if (!keyPattern.test(key)) throw this.#calls.invalid(`key: "${key}" must be letters, digits, "-" and ".", at most 200, and start with a letter or a digit`)
  }

  #checkSha(field: string, sha: string): void {
    if (!shaPattern.test(sha)) throw this.#calls.invalid(`${field}: "${sha}" must be a commit's full sha, 40 hexadecimal digits`)
  }
}

/** By these the agent's git finds its filters and the user's configuration; see go_by in sh/step.sh. */
const gitNames = ['PATH', 'HOME', 'XDG_CONFIG_HOME', 'GIT_CONFIG_GLOBAL']

/** Each brings a few MiB at most. */
const longestArtifactCallMs = 30_000

/** The agent's HEAD; null when it has none. */
function headOf(answer: Answer): string | null {
  return answer.fields.get('head') === '-' ? null : shaField(answer, 'head')
}

/** Longer paths are no folder on any system that sandboxes run. */
const longestPath = 4096

function sandboxFacts(answer: Answer): Omit<SandboxFacts, 'installed'> {
  const path = (name: string) => {
    const decoded = Buffer.from(textField(answer, name, /^[A-Za-z0-9+/=]*$/), 'base64').toString()
    if (decoded.length > longestPath || !/^\/[^\0\n]*$/.test(decoded)) throw new MalformedAnswer(`its ${name} folder is no path`)
    return decoded
  }
  const printable = /^[ -~]{0,256}$/
  const git = textField(answer, 'git', printable)
  return { repositoryPath: path('repository'), gitVersion: gitIn(answer) ?? git, user: textField(answer, 'user', printable) }
}

function withAccess({ lfsUrl, username = '', token = '' }: SandboxAccess, more: Readonly<Record<string, string>> = {}): Pick<Call, 'env' | 'secrets'> {
  const env = { ...more, ...(lfsUrl === undefined ? {} : { SWITCHYARD_LFS_URL: lfsUrl }) }
  if (token === '') return { env }
  return {
    env: { ...env, SWITCHYARD_USERNAME: username, SWITCHYARD_TOKEN: token },
    secrets: [token, Buffer.from(`${username}:${token}`).toString('base64')],
  }
}

/** How many LFS objects one call names; the smallest texts that providers take hold as many. */
const oidsAtOnce = 40

const defaultMaxPathsBytes = 256 * 1024 * 1024

/** How long one command of the agent's git may take, in whole seconds: a filter that hangs costs a part of the call's time, not all. */
function limitOf({ timeoutMs }: RunnerCallOptions): string {
  return String(Math.max(5, Math.min(180, Math.floor(timeoutMs / 3000))))
}

/** A small file's bytes as those of a large one come. */
function onePiece(content: Buffer | null): AsyncIterable<Buffer> | null {
  return content === null ? null : Readable.from(content.length === 0 ? [] : [content])
}

/** A line each, but for the last, which may have several; between two lines by which the script sees that all of it was decoded. */
const words = (...texts: readonly string[]): string => {
  const lines = texts.map((text, index) => (index < texts.length - 1 ? text.replaceAll('\n', ' ') : text))
  return Buffer.from(`.\n${lines.join('\n')}\n.`).toString('base64')
}
