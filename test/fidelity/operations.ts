import fc from 'fast-check'

/**
 * What agents do, one line of bash each, at random. Few names, so that what is done meets itself; what does not work here and now (a
 * merge with nothing to merge) does nothing.
 */

const paths = ['README.md', 'file-1', 'file-2', 'src/a', 'src/new', 'new', 'new folder/x', "odd 'ü\n\"", 'other.log', 'ignored/y', '-dash', ':colon']
const branches = ['main', 'one', 'two', 'feature/three']

const quote = (text: string) => `$'${text.replaceAll(/[\\'\n]/g, (letter) => (letter === '\n' ? '\\n' : `\\${letter}`))}'`
const path = fc.constantFrom(...paths).map((name) => quote(`./${name}`))
const branch = fc.constantFrom(...branches).map(quote)
const text = fc.constantFrom('1', '2\\r\\n', 'three\\n', '4\\0\\n', '$(head -c 70000 /dev/zero | tr "\\0" x)')
const one = (script: string) => fc.constant(script)

const files = fc.oneof(
  fc.tuple(path, text).map(([to, content]) => `mkdir -p "$(dirname ${to})" && printf "${content}" > ${to}`),
  fc.tuple(path, text).map(([to, content]) => `mkdir -p "$(dirname ${to})" && printf "${content}" >> ${to}`),
  path.map((name) => `rm -rf ${name}`),
  fc.tuple(path, path).map(([from, to]) => `mkdir -p "$(dirname ${to})" && mv -fT ${from} ${to}`),
  fc.tuple(fc.constantFrom('644', '755', '600', '444', '4711'), path).map(([mode, name]) => `chmod ${mode} ${name}`),
  path.map((name) => `rm -rf ${name}; mkdir -p ${name}`),
  fc.tuple(path, path).map(([target, name]) => `rm -rf ${name}; mkdir -p "$(dirname ${name})" && ln -s ${target} ${name}`),
  path.map((name) => `touch -d '2001-02-03' ${name}`),
  fc.constantFrom('src', 'docs', 'deep').map((folder) => `rm -rf ${folder}`),
)

const index = fc.oneof(
  one('git add -A'),
  path.map((name) => `git add -- ${name}`),
  path.map((name) => `git add -f -- ${name}`),
  path.map((name) => `git add -N -- ${name}`),
  path.map((name) => `git rm -rqf --cached -- ${name}`),
  path.map((name) => `git reset -q -- ${name}`),
  path.map((name) => `git checkout -q -- ${name}`),
  path.map((name) => `git update-index --chmod=+x -- ${name}`),
  fc.tuple(fc.constantFrom('--skip-worktree', '--assume-unchanged', '--no-skip-worktree', '--no-assume-unchanged'), path).map(([flag, name]) => `git update-index ${flag} -- ${name}`),
  fc.constantFrom('--split-index', '--no-split-index', '--index-version 4', '--untracked-cache').map((flag) => `git update-index ${flag}`),
)

const commits = fc.oneof(
  one('git add -A; git commit -qm all'),
  one('git commit -qam changed'),
  one('git commit -q --allow-empty -m empty'),
  one('git commit -q --amend -m amended'),
  one('git add -A; git commit -q --amend --no-edit'),
  fc.constantFrom('--soft', '--mixed', '--hard').map((how) => `git reset -q ${how} HEAD~1`),
  one('git rm -rqf --cached .; git commit -qm emptied'),
)

const branching = fc.oneof(
  branch.map((name) => `git branch ${name}`),
  branch.map((name) => `git checkout -q ${name}`),
  branch.map((name) => `git checkout -q -b ${name}`),
  branch.map((name) => `git checkout -qf ${name}`),
  branch.map((name) => `git checkout -q --orphan ${name}`),
  one('git checkout -q --detach'),
  branch.map((name) => `git branch -qD ${name}`),
  branch.map((name) => `git merge -q -m merged ${name}`),
  branch.map((name) => `git merge -q --squash ${name}`),
  branch.map((name) => `git rebase -q ${name}`),
  branch.map((name) => `git cherry-pick ${name}`),
  one('git revert --no-edit HEAD'),
  fc.constantFrom('merge', 'rebase', 'cherry-pick', 'revert').map((operation) => `git ${operation} --abort`),
  fc.constantFrom('rebase', 'cherry-pick', 'revert').map((operation) => `git add -A; git -c core.editor=true ${operation} --continue`),
  // Two branches that meet in one line.
  fc.tuple(path, branch).map(([name, other]) => `git add -A; git commit -qm here; git checkout -q -B ${other} HEAD~1; mkdir -p "$(dirname ${name})"; printf other > ${name}; git add -A -f -- ${name}; git commit -qm there; git checkout -q -`),
)

const others = fc.oneof(
  one('git stash -q'),
  one('git stash -q -u'),
  one('git stash push -q -m "a name"'),
  one('git stash pop -q'),
  one('git stash drop -q'),
  fc.constantFrom('v1', 'v2', 'one').map((name) => `git tag ${name}`),
  fc.constantFrom('v1', 'v3').map((name) => `git tag -f -m annotated ${name}`),
  fc.constantFrom('v1', 'v3').map((name) => `git tag -d ${name}`),
  fc.constantFrom('src', 'docs', 'src docs').map((cone) => `git sparse-checkout set --cone ${cone}`),
  one("git sparse-checkout set --no-cone '/*' '!/docs/'"),
  one('git sparse-checkout disable'),
  fc.constantFrom('nested', 'src/nested').map((folder) => `git init -q ${folder}; printf n > ${folder}/n`),
  fc.constantFrom('nested', 'src/nested').map((folder) => `cd ${folder} && [ -d .git ] && git add -A && git commit -qm nested; printf more >> n`),
  fc.constantFrom('nested', 'wt').map((folder) => `rm -rf ${folder}`),
  one('git worktree add -q wt -b in-wt'),
  one('cd wt && printf w >> w && git add -A && git commit -qm wt'),
  one('git worktree remove --force wt'),
  fc.tuple(fc.constantFrom('*.log', 'new', 'src/*', '!src/a'), fc.constantFrom('.gitignore', '.git/info/exclude')).map(([rule, file]) => `printf '%s\\n' '${rule}' >> ${file}`),
  fc.constantFrom('* text=auto', '*.md text eol=crlf', 'file-* -text', 'src/* ident', '*.md filter=rot').map((rule) => `printf '%s\\n' '${rule}' >> .gitattributes`),
  fc.constantFrom('core.autocrlf input', 'core.fileMode false', 'user.name Other', 'filter.rot.clean "tr a-z n-za-m"', 'filter.rot.smudge "tr n-za-m a-z"', 'color.ui always', 'status.showUntrackedFiles no', 'core.quotePath false').map((setting) => `git config ${setting}`),
  one("git config 'branch.one.description' $'two\\nlines'"),
  one('git gc -q --prune=now'),
  one('git pack-refs --all'),
  one('git notes add -f -m note'),
)

const lfs = fc.oneof(one('git lfs install --local >/dev/null; git lfs track "*.bin" >/dev/null'), one('head -c 5000 /dev/urandom > big.bin; git add big.bin'))

/** A line that an agent runs, of the sorts that this machine has programs for. */
export const operation = (programs: { readonly lfs: boolean }): fc.Arbitrary<string> =>
  fc.oneof({ arbitrary: files, weight: 6 }, { arbitrary: index, weight: 4 }, { arbitrary: commits, weight: 4 }, { arbitrary: branching, weight: 4 }, { arbitrary: others, weight: 5 }, ...(programs.lfs ? [{ arbitrary: lfs, weight: 1 }] : []))

/** What happens around the agent: a checkpoint; the sandbox is lost so many milliseconds into the next line. */
export type Event = { readonly run: string } | { readonly save: true } | { readonly loseAfterMs: number }

export const sequence = (programs: { readonly lfs: boolean }): fc.Arbitrary<Event[]> =>
  fc.array(
    fc.oneof(
      { arbitrary: operation(programs).map((run): Event => ({ run })), weight: 12 },
      { arbitrary: fc.constant<Event>({ save: true }), weight: 2 },
      { arbitrary: fc.nat({ max: 60 }).map((loseAfterMs): Event => ({ loseAfterMs })), weight: 1 },
    ),
    { minLength: 4, maxLength: 18 },
  )
