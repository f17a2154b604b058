import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

/** The parts in ./sh, one after the other. */
export const scriptSource = ['base', 'step', 'git', 'agent', 'clone', 'stage', 'state', 'state-git', 'state-tree', 'state-within', 'paths', 'checkpoint', 'restore', 'lfs', 'pack', 'artifacts', 'main']
  .map((part) => readFileSync(new URL(`./sh/${part}.sh`, import.meta.url), 'utf8'))
  .join('')

/** The script as it is installed in sandboxes: without the lines that are comments alone. */
export const runnerScript = scriptSource.replace(/^[ \t]*#(?!!).*\n/gm, '')

/** SHA-256 of the script in hex. It is in the installed file's name, so two versions of Switchyard can share a sandbox. */
export const scriptDigest = createHash('sha256').update(runnerScript).digest('hex')

/** The script's bytes, as uploads take them. */
export const scriptBytes = Buffer.from(runnerScript)

const installed = `"$HOME/.switchyard/runner-${scriptDigest.slice(0, 12)}.sh"`

/**
 * The shell text of one call. It answers `@switchyard NONCE absent` when the script is not there, or is not what was
 * installed: a command that ran in the sandbox must not get to see the token by rewriting it.
 */
export function callText(nonce: string, verb: string, args: readonly string[]): string {
  // Read once, then checked and run from memory: what changes the file in between changes nothing.
  // Where the job's commands have used up all processes, the first thing that needs one ends the shell.
  return `trap "echo '@switchyard ${nonce} starved'" 0
f=${installed}; s=$(cat "$f" 2>/dev/null)
case $(printf '%s\\n' "$s" | PATH=/usr/bin:/bin:$PATH sha256sum 2>/dev/null) in ${scriptDigest}*) ;; *) if [ -z "$s" ] || command -v sha256sum >/dev/null; then trap - 0; echo '@switchyard ${nonce} absent'; exit 0; fi ;; esac
exec sh -c "$s" "$f" ${[nonce, verb, ...args].map(quote).join(' ')} 2>/dev/null`
}

export function isAbsent(stdout: string, nonce: string): boolean {
  return stdout.includes(`@switchyard ${nonce} absent`)
}

/** Whether the sandbox had no process left for the call. */
export function isStarved(stdout: string, nonce: string): boolean {
  return stdout.includes(`@switchyard ${nonce} starved`)
}

/** How much longer the text of a piece is than the base64 that it carries. */
const uploadOverheadBytes = 1536

/** How many bytes one piece of an upload carries at most, when the texts are at most `maxBytes` long. */
export function uploadPieceBytes(maxBytes: number): number {
  return Math.max(Math.floor((maxBytes - uploadOverheadBytes) / 4), 64) * 3
}

export interface Upload {
  /** The file's name below ~/.switchyard; letters, digits, "-" and ".". */
  readonly name: string
  /** Tells uploads apart that go on side by side. */
  readonly id: string
  /** How many pieces there are, and how many bytes the file has. */
  readonly pieces: number
  readonly bytes: number
  /** Whether what the pieces carry is the file as gzip packs it. */
  readonly gzip?: boolean | undefined
}

/**
 * The shell text that puts one piece of an upload below ~/.switchyard. It can be repeated, and pieces may come in any order: each is a
 * file of its own.
 * @returns it answers `@switchyard ID done`, or says `no-home` or `disk` in its place.
 */
export function pieceText(upload: Upload, index: number, piece: Buffer): string {
  return `${writeText(upload, index, piece)}${done(upload)}`
}

/**
 * The shell text that joins the pieces and renames the whole into place. It can be repeated as well.
 * @returns as of `pieceText`, or `no-base64`, or `no-gzip`.
 */
export function joinText(upload: Upload): string {
  const { id, name, pieces, bytes, gzip = false } = upload
  // Pieces that are gone were joined by an earlier call whose answer was lost, perhaps while this one reads them: each joins into a file of its own.
  return `${uploadPrelude(upload)}
if [ -e upload-${id}.0 ]; then
  command -v base64 >/dev/null || ${say(upload, 'no-base64')}${gzip ? `\n  command -v gzip >/dev/null || { rm -f upload-${id}.*; ${say(upload, 'no-gzip')}; }` : ''}
  d=-d; [ "$(printf YQ== | base64 -d)" = a ] || d=-D
  n=0; while [ $n -lt ${pieces} ]; do cat upload-${id}.$n || exit 1; n=$((n + 1)); done | base64 $d${gzip ? ' | gzip -d' : ''} >joined-${id}.$$
  if [ "$(wc -c <joined-${id}.$$)" -eq ${bytes} ] && mv -f joined-${id}.$$ ${quote(name)}; then :; else
    rm -f joined-${id}.$$
    [ ! -e upload-${id}.0 ] || [ "$(wc -c <${quote(name)})" -eq ${bytes} ] || ${say(upload, 'disk')}
  fi
  rm -f upload-${id}.*
fi
${done(upload)}`
}

/** The shell texts of a whole upload, in order, as few as there can be: the last piece is joined in its own text. */
export function uploadTexts(name: string, content: Buffer, id: string, maxBytes: number, gzip = false): string[] {
  const room = uploadPieceBytes(maxBytes)
  const carried = gzip ? packed(content) : content
  const upload: Upload = { name, id, pieces: Math.max(1, Math.ceil(carried.length / room)), bytes: content.length, gzip }
  const piece = (index: number) => carried.subarray(index * room, (index + 1) * room)
  const last = upload.pieces - 1
  const texts = Array.from({ length: last }, (_, index) => pieceText(upload, index, piece(index)))
  return [...texts, `${writeText(upload, last, piece(last))}${joinText(upload)}`]
}

const packedContents = new WeakMap<Buffer, Buffer>()
/** Every sandbox gets the same script: what was packed once stays so, for as long as its content is held. */
function packed(content: Buffer): Buffer {
  const before = packedContents.get(content)
  if (before !== undefined) return before
  const now = gzipSync(content)
  packedContents.set(content, now)
  return now
}

function writeText(upload: Upload, index: number, piece: Buffer): string {
  return `${uploadPrelude(upload)}\nprintf %s '${piece.toString('base64')}' >piece-${upload.id}.$$ && mv -f piece-${upload.id}.$$ upload-${upload.id}.${index} || { rm -f piece-${upload.id}.$$; ${say(upload, 'disk')}; }\n`
}

const say = ({ id }: Upload, what: string) => `{ echo '@switchyard ${id} ${what}'; exit 0; }`
const done = ({ id }: Upload) => `echo '@switchyard ${id} done'`

function uploadPrelude(upload: Upload): string {
  const folder = '"$HOME/.switchyard"'
  return `exec 2>/dev/null; [ ! -L ${folder} ] || rm -f ${folder}; mkdir -p ${folder} && chmod 700 ${folder} && cd ${folder} || ${say(upload, 'no-home')}`
}

/** Quotes a word for a POSIX shell. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}
