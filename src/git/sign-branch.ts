import { InfrastructureError } from '../job/errors.js'
import type { GitAccess, GitCallOptions } from './host.js'
import type { Identity } from './rules.js'
import type { AddedCommit, SignatureCheck, Signed, SigningOptions, SignRequest } from './signature.js'
import { signatureCheck, withSigningKey, withTrustedKeys, type KeySettings } from './signing.js'
import { TemporaryRepository } from './temporary-repository.js'

/**
 * Signs a job's branch. What it stands at was made in a sandbox, so nothing of it is believed: it is read as data, in a repository that
 * lives as long as the call, without the contents of files. Signed are commits that are made here, of trees that stand there:
 * the commit that Switchyard added is made anew; where there is none, one with the same tree is made on top; by `rewrite` the
 * agent's own are made anew before.
 * The branch is moved as a compare-and-swap from exactly the commit that was read.
 */

/** More commits than this are not made anew one by one; then one is signed on top of them. */
const mostRewritten = 1000

/** No honest commit joins more; so many words go into one command. */
const mostParents = 1000

export async function signBranch(
  source: string,
  accesses: { readonly read: GitAccess; readonly write: GitAccess },
  signing: SigningOptions,
  request: SignRequest,
  options: GitCallOptions,
  /** Told what is about to be pushed, so that a push whose answer is lost is known again. */
  beforePush: (signed: Signed) => Promise<void>,
): Promise<Signed> {
  const { read, write } = accesses
  const { sha, baseSha, branch, added } = request
  return TemporaryRepository.use(source, read, options, async (local) => {
    const rewrites = signing.mode === 'rewrite' && sha !== baseSha
    if (rewrites) await local.fetch([baseSha], 'blob:none', 1)
    await local.fetch([sha], 'blob:none', rewrites ? undefined : 2)
    const history = rewrites ? (await local.run(['rev-list', '--reverse', '--topo-order', `--max-count=${mostRewritten + 1}`, sha, `^${baseSha}`])).trim().split('\n').filter((line) => line !== '') : []
    const rewritten = history.length > 0 && history.length <= mostRewritten
    const signed = await withSigningKey(source, signing, async (key) => ((rewritten ? await anew(local, history, { added, signing, key }) : null) ?? (await onTop(local, sha, { added, signing, key }))))
    await beforePush(signed)
    await local.moveBranch(write, signed.sha, `refs/heads/${branch}`, sha)
    return signed
  })
}

interface Commit {
  readonly tree: string
  readonly parents: readonly string[]
  readonly author: string
  readonly committer: string
  readonly encoding: string | null
  readonly message: Buffer
}

/** Reads a commit, as git does: parents stand behind the tree and nowhere else, and of another header that is there twice the first counts. */
export function parseCommit(raw: Buffer): Commit {
  const end = raw.indexOf('\n\n')
  const lines = raw.subarray(0, end === -1 ? raw.length : end).toString('utf8').split('\n')
  const values = (name: string) => lines.filter((line) => line.startsWith(`${name} `)).map((line) => line.slice(name.length + 1))
  const behindParents = lines.findIndex((line, index) => index > 0 && !line.startsWith('parent '))
  const parents = lines.slice(1, behindParents === -1 ? undefined : behindParents).map((line) => line.slice('parent '.length))
  return {
    tree: values('tree')[0] ?? '',
    parents: [...new Set(parents)],
    author: values('author')[0] ?? '',
    committer: values('committer')[0] ?? '',
    encoding: values('encoding').find((name) => /^[\w.:+-]{1,40}$/.test(name)) ?? null,
    message: end === -1 ? Buffer.alloc(0) : raw.subarray(end + 2),
  }
}

/** `Name <address> seconds zone` → its parts; git's own reading of a line that is not in order is nobody at the beginning of time. */
function person(line: string): { name: string; email: string; date: string } {
  const [, name = '', email = '', seconds = '0', zone = '+0000'] = /^(.*?) ?<([^<>]*)>(?: (\d{1,11}) ([+-](?:0\d|1[0-4])[0-5]\d))?/.exec(line.replaceAll('\0', '')) ?? []
  return { name: name === '' ? 'unknown' : name, email: email === '' ? 'unknown' : email, date: `@${seconds} ${zone}` }
}

async function onTop(local: TemporaryRepository, sha: string, { added, signing, key }: { added: AddedCommit; signing: SigningOptions; key: KeySettings }): Promise<Signed> {
  const commit = parseCommit(await local.raw(sha))
  const same = (line: string, who: Identity) => person(line).name === who.name && person(line).email === who.email
  const ours = isMessage(commit, added) && commit.parents.length <= mostParents && same(commit.author, added.author) && same(commit.committer, added.committer)
  const parents = ours ? commit.parents : [sha]
  const date = person(commit.committer).date
  const author = ours ? person(commit.author) : { ...added.author, date }
  const made = await write(local, { tree: commit.tree, parents, message: Buffer.from(added.message), author, committer: { ...(signing.committer ?? added.committer), date }, encoding: null }, key)
  return { sha: made, how: ours ? 'added' : 'on top', commits: 1 }
}

/** @returns null when git makes none like one of them: commits can be written that git itself would not, such as by nobody of a name. */
async function anew(local: TemporaryRepository, history: readonly string[], { added, signing, key }: { added: AddedCommit; signing: SigningOptions; key: KeySettings }): Promise<Signed | null> {
  const made = new Map<string, string>()
  let last = ''
  for (const sha of history) {
    const commit = parseCommit(await local.raw(sha))
    if (commit.parents.length > mostParents || (commit.encoding !== null && !asciiWithin.test(commit.encoding))) return null
    const committer = person(commit.committer)
    const next = await write(
      local,
      {
        ...commit,
        message: isMessage(commit, added) ? commit.message : withoutTrailers(commit.message),
        parents: commit.parents.map((parent) => made.get(parent) ?? parent),
        author: person(commit.author),
        committer: signing.committer === undefined ? committer : { ...signing.committer, date: committer.date },
      },
      key,
    ).catch((error: unknown) => {
      if (isOfTheCommit(error)) return null
      throw error
    })
    if (next === null) return null
    last = next
    made.set(sha, last)
  }
  return { sha: last, how: 'anew', commits: history.length }
}

function isMessage({ message }: Commit, added: AddedCommit): boolean {
  return message.toString('utf8') === added.message
}

/** Encodings in which a line of ASCII is what it looks like. In others, such as UTF-7, who reads a message sees other words than stand there. */
const asciiWithin = /^(utf-?8|us-ascii|(iso-?)?8859-\d{1,2}|iso-?8859-\d{1,2}|latin-?\d{1,2}|(windows-|cp-?)(125\d|437|850|852|866|932|936|949|950)|koi8-[ru]|euc-?(jp|kr|cn|tw)|gbk?|gb2312|gb18030|big5|s(hift)?[-_]?jis)$/i

/** Lines as those by which Switchyard says whose job the work is: signed, they would be believed, and whoever commits in a sandbox may write anybody's. */
function withoutTrailers(message: Buffer): Buffer {
  return Buffer.from(message.toString('latin1').replace(/^agent-(?:job|provider|sandbox|attempt)[ \t]*:.*(?:\n|$)/gim, ''), 'latin1')
}

/** Nothing is asked of the git host for a commit, so that what git refuses then is not the host's fault; `write` calls it the configuration's. */
function isOfTheCommit(error: unknown): boolean {
  return error instanceof InfrastructureError && error.owner === 'consumer-configuration'
}

interface NewCommit {
  readonly tree: string
  readonly parents: readonly string[]
  readonly message: Buffer
  readonly author: Identity & { readonly date: string }
  readonly committer: Identity & { readonly date: string }
  readonly encoding: string | null
}

async function write(local: TemporaryRepository, { tree, parents, message, author, committer, encoding }: NewCommit, key: KeySettings): Promise<string> {
  const env = {
    ...key.env,
    GIT_AUTHOR_NAME: author.name,
    GIT_AUTHOR_EMAIL: author.email,
    GIT_AUTHOR_DATE: author.date,
    GIT_COMMITTER_NAME: committer.name,
    GIT_COMMITTER_EMAIL: committer.email,
    GIT_COMMITTER_DATE: committer.date,
  }
  const config = { ...key.config, ...(encoding === null ? {} : { 'i18n.commitEncoding': encoding }) }
  const made = await local.run(['commit-tree', '-S', tree, ...parents.flatMap((parent) => ['-p', parent])], { input: message, env, config }).catch((error: unknown) => {
    if (!(error instanceof InfrastructureError) || error.kind !== 'transient') throw error
    throw error.with({ kind: 'invalid', owner: 'consumer-configuration', message: `${error.message}; look whether the key of git.signing can still sign` })
  })
  return made.trim()
}

/** Reads a commit and holds its signature against the keys. */
export async function checkCommitSignature(source: string, access: GitAccess, sha: string, publicKeys: readonly string[], options: GitCallOptions): Promise<SignatureCheck> {
  return withTrustedKeys(source, publicKeys, (keys) =>
    TemporaryRepository.use(source, access, options, async (local) => {
      await local.fetch([sha], 'tree:0', 1)
      const { exitCode, said } = await local.verify(sha, keys)
      return signatureCheck(exitCode, said)
    }),
  )
}
