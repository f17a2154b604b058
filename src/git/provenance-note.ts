import { z } from 'zod'
import type { GitAccess, GitCallOptions } from './host.js'
import { lsRemote } from './ls-remote.js'
import { InfrastructureError } from '../job/errors.js'
import { switchyardIdentity } from './rules.js'
import type { ProvenanceCheck, SigningOptions } from './signature.js'
import { checkText, signText } from './signing.js'
import { TemporaryRepository } from './temporary-repository.js'

/**
 * Provenance statements as git notes. A note is an envelope of the DSSE form (github.com/secure-systems-lab/dsse): the statement and a
 * signature over it by the key that signs commits, since a note, unlike a commit, can be put in place of another by whoever may push.
 */

/** Where the notes are. */
export const provenanceRef = 'refs/notes/switchyard-provenance'
const payloadType = 'application/vnd.in-toto+json'

const envelopeSchema = z.object({
  payloadType: z.literal(payloadType),
  payload: z.base64(),
  signatures: z.array(z.object({ sig: z.base64() })).min(1),
})
const statementSchema = z.looseObject({ subject: z.array(z.looseObject({ digest: z.looseObject({ gitCommit: z.string() }) })).min(1), predicate: z.looseObject({}) })

/** What DSSE signs: the type and the text, each with its length. */
export function preAuthenticated(type: string, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `), payload])
}

const tries = 5

/** Leaves a statement on a commit. A note of the same commit from before is replaced. */
export async function writeProvenance(source: string, { read, write }: { read: GitAccess; write: GitAccess }, signing: SigningOptions, note: { readonly sha: string; readonly statement: object }, options: GitCallOptions): Promise<void> {
  const payload = Buffer.from(JSON.stringify(note.statement))
  const sig = await signText(source, signing, preAuthenticated(payloadType, payload))
  const envelope = JSON.stringify({ payloadType, payload: payload.toString('base64'), signatures: [{ sig: Buffer.from(sig).toString('base64') }] })
  for (let attempt = 1; ; attempt++) {
    const { refs } = await lsRemote(source, read, [provenanceRef], options)
    const head = refs.get(provenanceRef) ?? null
    const moved = await TemporaryRepository.use(source, write, options, async (local) => {
      if (head !== null) await local.fetch([`+${head}:${provenanceRef}`], 'blob:none', 1)
      const who = { GIT_AUTHOR_NAME: switchyardIdentity.name, GIT_AUTHOR_EMAIL: switchyardIdentity.email, GIT_COMMITTER_NAME: switchyardIdentity.name, GIT_COMMITTER_EMAIL: switchyardIdentity.email }
      await local.run(['notes', `--ref=${provenanceRef}`, 'add', '--force', '-F', '-', note.sha], { input: `${envelope}\n`, env: who })
      return local.push((await local.commit(provenanceRef)) ?? '', provenanceRef, head)
    })
    if (moved) return
    if (attempt === tries) throw new InfrastructureError({ kind: 'transient', owner: 'git-repository', source, message: `${source}: ${provenanceRef} keeps moving` })
  }
}

/** Reads a commit's statement and holds it against public keys: that it is of one of them, and about this commit. */
export async function checkProvenance(source: string, read: GitAccess, sha: string, publicKeys: readonly string[], options: GitCallOptions): Promise<ProvenanceCheck> {
  const { refs } = await lsRemote(source, read, [provenanceRef], options)
  if (!refs.has(provenanceRef)) return { found: false }
  const text = await TemporaryRepository.use(source, read, options, async (local) => {
    await local.fetch([`+${provenanceRef}:${provenanceRef}`], 'blob:none', 1)
    const notes = await local.run(['notes', `--ref=${provenanceRef}`, 'list'])
    const blob = notes.split('\n').find((line) => line.endsWith(` ${sha}`))?.split(' ')[0]
    return blob === undefined ? null : local.run(['cat-file', 'blob', blob])
  })
  if (text === null) return { found: false }
  const bad = (reason: string) => ({ found: true, statement: null, good: false, reason }) as const
  const envelope = envelopeSchema.safeParse(parsed(text))
  if (!envelope.success) return bad('its provenance note is none of Switchyard’s')
  const payload = Buffer.from(envelope.data.payload, 'base64')
  const signature = Buffer.from(envelope.data.signatures[0]?.sig ?? '', 'base64').toString('utf8')
  const check = await checkText(source, publicKeys, preAuthenticated(envelope.data.payloadType, payload), signature)
  if (!check.good) return bad(`its provenance ${check.reason}`)
  const statement = statementSchema.safeParse(parsed(payload.toString('utf8')))
  if (!statement.success) return bad('its provenance is no statement')
  if (!statement.data.subject.some(({ digest }) => digest.gitCommit === sha)) return bad('its provenance is about another commit')
  return { found: true, statement: statement.data, ...check }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
