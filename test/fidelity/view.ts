import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'

/** What a repository shows, one entry a fact: `file src/a` → its type, mode and bytes; `status`, `ref refs/heads/x`, `stash`, `config` and so on. */
export type View = Record<string, string>

export interface Place {
  readonly tree: string
  /** Stands as `~` in what is compared: two sandboxes on one machine have different homes. */
  readonly home: string
  /** The environment that the agent's own git has. */
  readonly env: Readonly<Record<string, string>>
}

/**
 * What git says, by the agent's own git under the agent's own configuration. Parts begin with bytes that stand in no name. Looking changes nothing: no
 * index is refreshed.
 */
const questions = String.raw`
export GIT_OPTIONAL_LOCKS=0 LC_ALL=C GIT_TERMINAL_PROMPT=0
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_TRACE
g() { git -c color.ui=false -c core.quotePath=true -c core.pager=cat -c core.fsmonitor=false -c core.abbrev=40 -c log.showSignature=false "$@" 2>/dev/null; }
say() { printf '\0\1\1%s\0' "$1"; }
say HEAD; g symbolic-ref -q HEAD || g rev-parse -q --verify HEAD
say status; g status --porcelain=v2 --branch --untracked-files=all
say refs; g for-each-ref --format='%(refname) %(objecttype) %(objectname) %(symref)'
say stash; ! git reflog exists refs/stash || g reflog show --format='%H %gs' refs/stash
# Where the sandbox has git-lfs, the include that a restore adds is Switchyard's own. A key without a value is one that is true.
say config; g config --local --list -z | tr '\n\0' '\001\n' | sed -e '/^include[.]path.lfs[.]config$/d' -e '/\x01/!s/$/\x01true/' | sort
say config.worktree; ! [ "$(git config extensions.worktreeConfig)" = true ] || g config --worktree --list -z | tr '\n\0' '\001\n' | sort
say index; g ls-files --stage
say flags; g ls-files -v | grep -v '^H '
say intended; g diff-files --name-only --diff-filter=A
say history; { g rev-list --all HEAD || g rev-list --all; } | sort -u | wc -l
say complete; git -c core.fsmonitor=false fsck --connectivity-only --no-dangling --no-progress 2>&1 | grep -v '^notice' | sort
say worktrees; g worktree list --porcelain
say under-way; cd "$(git rev-parse --git-dir)" && for f in MERGE_HEAD MERGE_MSG MERGE_MODE CHERRY_PICK_HEAD REVERT_HEAD ORIG_HEAD REBASE_HEAD SQUASH_MSG BISECT_LOG BISECT_START BISECT_NAMES BISECT_TERMS BISECT_FIRST_PARENT BISECT_HEAD MERGE_RR NOTES_MERGE_REF NOTES_MERGE_PARTIAL; do
  [ ! -f "$f" ] || { echo "$f"; cat "$f"; }; done; for f in rebase-merge rebase-apply sequencer hooks info/exclude info/attributes info/sparse-checkout info/grafts rr-cache NOTES_MERGE_WORKTREE; do
  [ ! -e "$f" ] || find -L "$f" -type f ! -name '*.sample' ! -name amend -printf '%p %m ' -exec sha256sum {} \; | sed 's/  .*//' | grep -v e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 | sort; done
say ignored; cd "$OLDPWD"; git -c core.quotePath=false ls-files -z -o -i --exclude-standard --directory 2>/dev/null; :
`

/** Asks a repository all that may differ after a move. */
export async function look(place: Place): Promise<View> {
  const view: View = {}
  await lookAt(place, '', view)
  const global = await bash('git config --global --list -z | tr "\\n\\0" "\\001\\n" | sort', place, place.tree)
  view['global config'] = tilde(global, place)
  return view
}

async function lookAt(place: Place, below: string, view: View): Promise<void> {
  const path = join(place.tree, below)
  const at = below === '' ? '' : `${printable(Buffer.from(below, 'latin1'))}: `
  const parts = (await bash(questions, place, path)).split('\0\u0001\u0001').slice(1)
  const said = Object.fromEntries(parts.map((part) => [part.slice(0, part.indexOf('\0')), part.slice(part.indexOf('\0') + 1)]))
  const { ignored = '', refs = '', ...rest } = said
  for (const [what, text] of Object.entries(rest)) view[`${at}${what}`] = tilde(text, place)
  for (const line of refs.split('\n').filter((text) => text !== '')) {
    const [name = '', ...about] = line.split(' ')
    view[`${at}ref ${name}`] = about.join(' ').trim()
  }
  await walk(Buffer.from(path, 'latin1'), Buffer.alloc(0), new Set(ignored.split('\0')), place, at, view)
}

/** Every file and folder but those that are ignored, which nobody promises; names are bytes. */
async function walk(top: Buffer, below: Buffer, ignored: ReadonlySet<string>, place: Place, at: string, view: View): Promise<void> {
  const join_ = (a: Buffer, b: Buffer) => (a.length === 0 ? b : Buffer.concat([a, Buffer.from('/'), b]))
  for (const name of await readdir(join_(top, below), { encoding: 'buffer' })) {
    if (name.toString() === '.git') continue
    const path = join_(below, name)
    const whole = join_(top, path)
    const stat = await lstat(whole)
    if (ignored.has(path.toString('latin1')) || (stat.isDirectory() && ignored.has(`${path.toString('latin1')}/`))) continue
    const mode = (stat.mode & 0o7777).toString(8)
    const label = `${at}${printable(path)}`
    if (stat.isDirectory()) {
      view[`folder ${label}`] = mode
      const nested = (await readdir(whole)).includes('.git') && at === ''
      if (nested) await lookAt(place, path.toString('latin1'), view)
      else await walk(top, path, ignored, place, at, view)
    } else if (stat.isSymbolicLink()) view[`file ${label}`] = `link ${tilde((await readlink(whole, { encoding: 'buffer' })).toString('latin1'), place)}`
    else if (stat.isFile()) view[`file ${label}`] = `file ${mode} ${stat.size} ${createHash('sha256').update(await readFile(whole)).digest('hex').slice(0, 16)}`
    else view[`file ${label}`] = 'other'
  }
}

const printable = (path: Buffer): string => JSON.stringify(path.toString('latin1')).slice(1, -1)
const tilde = (text: string, { home }: Place): string => text.replaceAll(home, '~')

/** Runs a script in a place as its agent would; what it prints, as Latin-1. @throws with its output when it fails. */
export function bash(script: string, { home, env }: Pick<Place, 'home' | 'env'>, cwd: string, options: { signal?: AbortSignal } = {}): Promise<string> {
  const environment = { PATH: process.env['PATH'], HOME: home, ...env }
  return new Promise((resolve, reject) => {
    // From the script and not by `cwd`: a folder's name may hold any bytes.
    const quoted = Buffer.from(cwd, 'latin1').toString('latin1').replaceAll(/[^\w/.-]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`)
    execFile('bash', ['-c', `cd $'${quoted}' || exit; ${script}`], { cwd: '/', env: environment, encoding: 'latin1', maxBuffer: 256 * 1024 * 1024, ...options }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${script.slice(0, 300)}\n${stdout.slice(-2_000)}\n${stderr.slice(-2_000)}`, { cause: error }))
    })
  })
}
