import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** The script as it is installed in sandboxes: the parts in ./sh, one after the other. */
export const runnerScript = ['base', 'step', 'git', 'clone', 'checkpoint', 'main']
  .map((part) => readFileSync(new URL(`./sh/${part}.sh`, import.meta.url), 'utf8'))
  .join('')

/** SHA-256 of the script in hex. It is in the installed file's name, so two versions of Switchyard can share a sandbox. */
export const scriptDigest = createHash('sha256').update(runnerScript).digest('hex')

const installed = `"$HOME/.switchyard/runner-${scriptDigest.slice(0, 12)}.sh"`

/**
 * The shell text of one call. It answers `@switchyard NONCE absent` when the script is not there, or is not what was
 * installed: a command that ran in the sandbox must not get to see the token by rewriting it.
 */
export function callText(nonce: string, verb: string, args: readonly string[]): string {
  // Read once, then checked and run from memory: what changes the file in between changes nothing.
  return `f=${installed}; s=$(cat "$f" 2>/dev/null)
case $(printf '%s\\n' "$s" | PATH=/usr/bin:/bin:$PATH sha256sum 2>/dev/null) in ${scriptDigest}*) ;; *) if [ -z "$s" ] || command -v sha256sum >/dev/null; then echo '@switchyard ${nonce} absent'; exit 0; fi ;; esac
exec sh -c "$s" "$f" ${[nonce, verb, ...args].map(quote).join(' ')} 2>/dev/null`
}

export function isAbsent(stdout: string, nonce: string): boolean {
  return stdout.includes(`@switchyard ${nonce} absent`)
}

/** How much longer the text of `uploadTexts` is than the base64 that it carries. */
const uploadOverheadBytes = 1536

/**
 * The shell texts that put bytes into a file below ~/.switchyard, each at most `maxBytes` long. Every one can be repeated:
 * the pieces are files of their own, and the last text joins them and renames the whole into place.
 * @param name the file's name; letters, digits, "-" and ".".
 * @param id tells uploads apart that go on side by side.
 * @returns each answers `@switchyard ID done`, or says `no-home`, `no-base64` or `disk` in its place.
 */
export function uploadTexts(name: string, content: Buffer, id: string, maxBytes: number): string[] {
  const room = Math.max(Math.floor((maxBytes - uploadOverheadBytes) / 4) * 4, 256)
  const encoded = content.toString('base64')
  const pieces: string[] = []
  for (let at = 0; at < encoded.length || at === 0; at += room) pieces.push(encoded.slice(at, at + room))
  const folder = '"$HOME/.switchyard"'
  const say = (what: string) => `{ echo '@switchyard ${id} ${what}'; exit 0; }`
  const prelude = `exec 2>/dev/null; [ ! -L ${folder} ] || rm -f ${folder}; mkdir -p ${folder} && chmod 700 ${folder} && cd ${folder} || ${say('no-home')}`
  const write = (text: string, index: number) => `${prelude}\nprintf %s '${text}' >upload-${id}.${index} || ${say('disk')}\n`
  // Pieces that are gone were joined by an earlier call whose answer was lost.
  const join = `if [ -e upload-${id}.0 ]; then
  command -v base64 >/dev/null || ${say('no-base64')}
  d=-d; [ "$(printf YQ== | base64 -d)" = a ] || d=-D
  n=0; while [ $n -lt ${pieces.length} ]; do cat upload-${id}.$n || exit 1; n=$((n + 1)); done | base64 $d >upload-${id}
  [ "$(wc -c <upload-${id})" -eq ${content.length} ] && mv -f upload-${id} ${quote(name)} || ${say('disk')}
  rm -f upload-${id}.*
fi
`
  return pieces.map((text, index) => `${write(text, index)}${index === pieces.length - 1 ? join : ''}echo '@switchyard ${id} done'`)
}

/** Quotes a word for a POSIX shell. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}
