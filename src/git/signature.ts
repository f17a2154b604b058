/** What a git host is told, and tells, about signatures: the words; ./signing.ts, ./sign-branch.ts and ./provenance-note.ts do it. */

export const signingFormats = ['ssh', 'openpgp'] as const
/**
 * `add`: the commit that Switchyard adds is signed; where it adds none, one with the same files is added. `rewrite`: the agent's own
 * commits are made anew as well, each signed.
 */
export const signingModes = ['add', 'rewrite'] as const

interface Person {
  readonly name: string
  readonly email: string
}

export interface SigningOptions {
  readonly format: (typeof signingFormats)[number]
  readonly mode: (typeof signingModes)[number]
  /** The private key without a passphrase, as text: an OpenSSH one, or an armored OpenPGP one. Read anew for each use. */
  readonly key: () => string
  /** Who commits what is signed, as the host has to know the key. Default: who would commit it anyway. */
  readonly committer?: Person | undefined
  /** Promotions ask the host to let only signed commits in (`verify-sig`). */
  readonly verifyAtTarget: boolean
  /** A provenance statement is left as a note on the work's commit. */
  readonly provenance: boolean
  /** Older keys' public halves, whose signatures are good as well. */
  readonly publicKeys: readonly string[]
}

export type SignatureCheck = { readonly good: true; readonly key: string } | { readonly good: false; readonly reason: string }

/** The commit that Switchyard would add: by its content it is known again. */
export interface AddedCommit {
  readonly message: string
  readonly author: Person
  readonly committer: Person
}

export interface SignRequest {
  readonly branch: string
  readonly sha: string
  readonly baseSha: string
  readonly added: AddedCommit
}

export interface Signed {
  readonly sha: string
  /** What was signed: `added`, Switchyard's own commit; `on top`, one that was made for it; `anew`, all of the job's commits. */
  readonly how: 'added' | 'on top' | 'anew'
  readonly commits: number
}

export type ProvenanceCheck = { readonly found: false } | ({ readonly found: true; readonly statement: Readonly<Record<string, unknown>> | null } & SignatureCheck)
