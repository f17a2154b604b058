import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { InfrastructureError } from '../job/errors.js'
import { started } from '../job/started.js'
import type { SignatureCheck, SigningOptions } from './signature.js'

/**
 * Signing of commits by a consumer, through git: with an SSH key (`ssh-keygen`) or an OpenPGP key (`gpg`). A key lies in a file of a
 * private folder for as long as the commits are made, and never in a sandbox.
 */

/** What git needs to sign or to verify: configuration, and where its programs look. */
export interface KeySettings {
  readonly config: Readonly<Record<string, string>>
  readonly env: Readonly<Record<string, string>>
}

/** Runs `work` with the private key at hand. @throws InfrastructureError of the consumer's configuration when it can't be used. */
export async function withSigningKey<Result>(source: string, { format, key }: Pick<SigningOptions, 'format' | 'key'>, work: (settings: KeySettings) => Promise<Result>): Promise<Result> {
  const text = read(source, key)
  return inPrivateFolder(format, async (folder) => {
    if (format === 'ssh') {
      const file = join(folder, 'key')
      await writeFile(file, text.endsWith('\n') ? text : `${text}\n`, { mode: 0o600 })
      // Asks for a passphrase where there is one, and is given none.
      await program(source, 'ssh-keygen', ['-y', '-P', '', '-f', file])
      return work({ config: { 'gpg.format': 'ssh', 'user.signingKey': file }, env: {} })
    }
    const env = { GNUPGHOME: folder }
    await program(source, 'gpg', ['--batch', '--no-tty', '--quiet', '--import'], text, env)
    const fingerprint = firstFingerprint(await program(source, 'gpg', ['--batch', '--no-tty', '--with-colons', '--list-secret-keys'], '', env))
    return work({ config: { 'gpg.format': 'openpgp', 'user.signingKey': fingerprint }, env })
  })
}

/** The public half of the key: an `authorized_keys` line, or an armored OpenPGP key. */
export async function publicKeyOf(source: string, { format, key }: Pick<SigningOptions, 'format' | 'key'>): Promise<string> {
  return withSigningKey(source, { format, key }, async ({ config, env }) => {
    const id = config['user.signingKey'] ?? ''
    const made = format === 'ssh' ? await program(source, 'ssh-keygen', ['-y', '-P', '', '-f', id]) : await program(source, 'gpg', ['--batch', '--no-tty', '--armor', '--export', id], '', env)
    return made.trim()
  })
}

/**
 * Runs `work` with public keys that signatures are held against. Lines that begin with `ssh-`, `ecdsa-` or `sk-` are SSH keys, blocks that
 * begin with `-----BEGIN PGP` are OpenPGP keys.
 */
export async function withTrustedKeys<Result>(source: string, publicKeys: readonly string[], work: (settings: KeySettings) => Promise<Result>): Promise<Result> {
  return inPrivateFolder('openpgp', async (folder) => work(await trustedKeys(source, publicKeys, folder)))
}

/** Writes public keys to a folder, in place of what was there before. @returns how git holds signatures against them. */
export async function trustedKeys(source: string, publicKeys: readonly string[], folder: string): Promise<KeySettings> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const texts = publicKeys.map((text) => text.trim())
  const file = join(folder, 'allowed-signers')
  await writeFile(file, allowedSigners(texts))
  const armored = texts.filter((text) => text.startsWith('-----BEGIN PGP'))
  const env = { GNUPGHOME: folder }
  if (armored.length > 0) await program(source, 'gpg', ['--batch', '--no-tty', '--quiet', '--import'], `${armored.join('\n')}\n`, env)
  return { config: { 'gpg.ssh.allowedSignersFile': file }, env }
}

/** What texts, and not commits, are signed for: no signature of the one kind can be taken for one of the other. */
const textNamespace = 'switchyard-provenance'

/** A signature over a text, armored. */
export async function signText(source: string, signing: Pick<SigningOptions, 'format' | 'key'>, text: Buffer): Promise<string> {
  return withSigningKey(source, signing, ({ config, env }) => {
    const key = config['user.signingKey'] ?? ''
    return signing.format === 'ssh'
      ? program(source, 'ssh-keygen', ['-q', '-Y', 'sign', '-n', textNamespace, '-f', key], text)
      : program(source, 'gpg', ['--batch', '--no-tty', '--armor', '--local-user', key, '--set-notation', `purpose@switchyard=${textNamespace}`, '--detach-sign'], text, env)
  })
}

/** Holds a text's signature against public keys. */
export async function checkText(source: string, publicKeys: readonly string[], text: Buffer, signature: string): Promise<SignatureCheck> {
  return withTrustedKeys(source, publicKeys, async ({ config, env }) => {
    const folder = env['GNUPGHOME'] ?? ''
    const file = join(folder, 'signature')
    await writeFile(file, signature)
    const ssh = signature.startsWith('-----BEGIN SSH SIGNATURE-----')
    const [name, args] = ssh
      ? ['ssh-keygen', ['-Y', 'verify', '-f', config['gpg.ssh.allowedSignersFile'] ?? '', '-I', 'switchyard', '-n', textNamespace, '-s', file]] as const
      : ['gpg', ['--batch', '--no-tty', '--status-fd', '1', '--verify', file, '-']] as const
    const said = await program(source, name, args, text, env).catch((error: unknown) => {
      // It does not say which of the two it was: a bad signature, or a key that is not known.
      if (error instanceof InfrastructureError) return null
      throw error
    })
    // As git has it: gpg itself is content with a key that was revoked, or has expired.
    if (said !== null && /\[GNUPG:\] (EXPKEYSIG|REVKEYSIG|EXPSIG) /.test(said)) return { good: false, reason: 'is signed with a key that has expired or was revoked' }
    const key = said === null ? undefined : (/ with (\S+ key \S+)/.exec(said)?.[1] ?? /\[GNUPG:\] GOODSIG [^]*\[GNUPG:\] VALIDSIG (\S+)/.exec(said)?.[1])
    return key === undefined ? { good: false, reason: 'is not signed with a key that is known here' } : { good: true, key }
  })
}

/** The file in which git looks for who may sign; each key is for git's signatures, and ours of texts, alone. */
export function allowedSigners(publicKeys: readonly string[]): string {
  const keys = publicKeys.flatMap((text) => text.split('\n')).flatMap((line) => /^(?:ssh-|ecdsa-|sk-)[\w.@-]+ [A-Za-z0-9+/=]+/.exec(line) ?? [])
  return keys.map((key) => `switchyard namespaces="git,${textNamespace}" ${key}\n`).join('')
}

/**
 * What `git verify-commit --raw` said: git's own word is its exit code, and its text names the key.
 */
export function signatureCheck(exitCode: number | null, said: string): SignatureCheck {
  const key = /Good "git" signature (?:for \S+ )?with (\S+ key \S+)/.exec(said)?.[1] ?? /\[GNUPG:\] VALIDSIG (\S+)/.exec(said)?.[1]
  if (exitCode === 0 && key !== undefined) return { good: true, key }
  if (said.trim() === '') return { good: false, reason: 'it is not signed' }
  if (/No principal matched|\[GNUPG:\] NO_PUBKEY/.test(said)) return { good: false, reason: 'it is signed with a key that is not known here' }
  return { good: false, reason: `its signature is not good (${said.trim().split('\n')[0]?.slice(0, 200) ?? ''})` }
}

function read(source: string, key: () => string): string {
  const text = key().trim()
  if (text !== '') return text
  throw unusable(source, 'it is empty')
}

function unusable(source: string, why: string): InfrastructureError {
  return new InfrastructureError({ kind: 'invalid', owner: 'consumer-configuration', source, message: `${source}: git.signing: the key can’t be used: ${why}` })
}

/** Of the names of such folders, in the folder for temporary files. */
export const signingFolderPrefix = 'switchyard-signing-'

async function inPrivateFolder<Result>(format: SigningOptions['format'], work: (folder: string) => Promise<Result>): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), signingFolderPrefix))
  try {
    return await work(folder)
  } finally {
    // gpg leaves an agent behind, which holds the key in memory and ends when its folder goes; it is not waited for.
    if (format === 'openpgp') await end(folder)
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

async function end(folder: string): Promise<void> {
  const child = spawn('gpgconf', ['--homedir', folder, '--kill', 'all'], { stdio: 'ignore' })
  await new Promise<void>((resolve) => {
    // Without gpg there is no agent of it either.
    child.once('error', () => resolve())
    child.once('close', () => resolve())
  })
}

function firstFingerprint(listing: string): string {
  return /^fpr:(?:[^:]*:){8}([0-9A-F]+):/m.exec(listing)?.[1] ?? ''
}

/** Runs one of the keys' programs. Its words are not repeated where they could hold the key. */
async function program(source: string, name: string, args: readonly string[], input: string | Buffer = '', env: Readonly<Record<string, string>> = {}): Promise<string> {
  const child = await started(spawn(name, args, { env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: '/nonexistent', LC_ALL: 'C', SSH_ASKPASS: '', ...env }, stdio: ['pipe', 'pipe', 'ignore'], timeout: 30_000, detached: true })).catch((error: unknown) => {
    throw (error as NodeJS.ErrnoException).code === 'ENOENT' ? unusable(source, `${name} is not installed where the consumer runs`) : error
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code !== 0) throw unusable(source, `${name} does not take it; give a private key without a passphrase, of the format that "format" says`)
  return output
}
