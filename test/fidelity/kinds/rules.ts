import { identity, type Kind } from './kind.js'

/** What git's own rules say of a path: sparse checkouts, flags, filters, encodings, line ends, ignore files. */

const rot = `git config filter.rot.clean 'tr a-z n-za-m'; git config filter.rot.smudge 'tr n-za-m a-z'`
const filtered = (attribute: string) => `echo 'secret* filter=${attribute}' > .gitattributes; echo plain > secret-1; echo plain too > secret-2; echo hello > README.md; git add -A; git commit -qm Begin`
const rotOrigin = `${rot}; ${filtered('rot')}`
/** What such a filter guards is never saved as it lies there: that would publish what git-crypt keeps secret. */
const broken = (name: string, settings: string, unsaved = ['secret-1', 'secret-3'], saved: Readonly<Record<string, string>> = {}): Kind => ({
  name: `a filter that ${name}`,
  origin: rotOrigin,
  setup: settings,
  agent: 'echo changed > secret-1; echo new > secret-3; echo work >> README.md; echo b > b.txt',
  unsaved,
  promoted: { 'README.md': 'M', 'b.txt': 'A', ...saved },
  notHeld: new RegExp(`^(file (${unsaved.join('|')})|status)$`),
})

export const rules: readonly Kind[] = [
  { name: 'sparse checkout with a cone', setup: 'git sparse-checkout set --cone src', agent: 'echo fixed >> src/a; echo new > src/new' },
  { name: 'sparse checkout without a cone', setup: "git sparse-checkout set --no-cone '/*' '!/docs/' '!/infra/'", agent: 'echo fixed >> src/a; rm file-1' },
  { name: 'sparse checkout with a sparse index', setup: 'git sparse-checkout set --cone --sparse-index src', agent: `${identity}; echo fixed >> src/a; git commit -qam fix; echo more >> src/a` },
  { name: 'sparse checkout by the agent itself', agent: 'git sparse-checkout set --cone src docs; echo fixed >> docs/b; git sparse-checkout add infra' },
  {
    name: 'a file outside of the cone',
    setup: 'git sparse-checkout set --cone src',
    agent: 'mkdir -p docs other; echo changed > docs/b; echo new > other/new; echo fixed >> src/a',
    promoted: { 'docs/b': 'M', 'other/new': 'A', 'src/a': 'M' },
  },
  { name: 'sparse checkout that was turned off again', agent: 'git sparse-checkout set --cone src; git sparse-checkout disable; echo x >> docs/b' },
  { name: 'skip-worktree on a file that is away', agent: 'git update-index --skip-worktree file-1 file-2; rm file-1; echo x >> file-3' },
  { name: 'skip-worktree on a changed file', agent: 'git update-index --skip-worktree file-1; echo local > file-1; echo x >> file-3' },
  { name: 'assume-unchanged on a changed file', agent: 'git update-index --assume-unchanged file-1; echo local > file-1; echo x >> file-3' },
  { name: 'skip-worktree on files whose folder became a link or a file, and assume-unchanged on a link and on modes', agent: 'git update-index --skip-worktree src/a docs/b file-3; rm -r src docs; ln -s infra src; echo plain > docs; git update-index --assume-unchanged link run.sh file-2; rm link; ln -s elsewhere link; chmod -x run.sh; chmod +x file-2; echo x > x' },
  { name: 'assume-unchanged on a deleted file', agent: 'git update-index --assume-unchanged file-1; rm file-1; echo x >> file-3' },
  { name: 'a clean and a smudge filter, untouched', origin: rotOrigin, setup: `${rot}; rm secret*; git checkout -q -- .; cat secret-1`, agent: 'grep -q plain secret-1; echo work >> README.md' },
  { name: 'a clean and a smudge filter, edited', origin: rotOrigin, setup: `${rot}; rm secret*; git checkout -q -- .`, agent: 'grep -q plain secret-1; echo more >> secret-1; echo new > secret-new; git add secret-new' },
  { name: 'a filter that is configured nowhere', origin: filtered('nowhere'), agent: 'echo more >> secret-1; echo new > secret-new' },
  broken('is missing', "git config filter.rot.clean 'no-such-program %f'; git config filter.rot.smudge cat"),
  broken('is missing and required', "git config filter.rot.clean 'no-such-program %f'; git config filter.rot.smudge cat; git config filter.rot.required true"),
  broken('fails', 'git config filter.rot.clean false; git config filter.rot.smudge cat'),
  broken('fails and is required', 'git config filter.rot.clean false; git config filter.rot.smudge cat; git config filter.rot.required true'),
  broken('fails for one file', `git config filter.rot.clean 'grep -v changed'; git config filter.rot.smudge cat; git config filter.rot.required true; echo plain >> secret-2`, ['secret-1'], { 'secret-2': 'M', 'secret-3': 'A' }),
  broken('speaks no protocol', 'git config filter.rot.process false; git config filter.rot.required true'),
  { name: 'a filter on a path that is untouched, missing', origin: rotOrigin, setup: "git config filter.rot.clean no-such-program; git config filter.rot.smudge no-such-program; git config filter.rot.required true", agent: 'echo work >> README.md' },
  {
    name: 'a filter that changes what it cleans each time',
    origin: rotOrigin,
    setup: "git config filter.rot.clean 'tr a-z n-za-m'; git config filter.rot.smudge 'tr n-za-m a-z'; rm secret*; git checkout -q -- .",
    agent: 'sleep 1.1; git update-index -q --refresh; echo work >> README.md; touch secret-1',
  },
  {
    name: 'git-crypt',
    needs: 'git-crypt',
    origin: `git-crypt init; git-crypt export-key "$HOME/key" || :; echo 'secret.env filter=git-crypt diff=git-crypt' > .gitattributes; echo TOKEN=1 > secret.env; echo hello > README.md; git add -A; git commit -qm Begin; base64 -w0 < "$HOME/key" > key.txt; git add key.txt; git commit -qm Key`,
    setup: 'base64 -d < key.txt > ~/key; git-crypt unlock ~/key; grep -q TOKEN secret.env',
    agent: `${identity}; echo fixed >> README.md; git commit -qam fix; echo TOKEN=2 > secret.env; git status --short`,
  },
  { name: 'LFS pointers without a filter', origin: lfsOrigin(), agent: 'echo fixed >> README.md' },
  // With brokered credentials it is a pointer after a move, by design.
  { name: 'LFS, new and changed', needs: 'git-lfs', only: 'minted', origin: lfsOrigin(), setup: 'git lfs install --local --skip-smudge', agent: 'head -c 100000 /dev/zero > new.bin; git add new.bin; echo fixed >> README.md' },
  { name: 'working-tree-encoding that fits', origin: `printf '*.rc text working-tree-encoding=UTF-16LE\n' > .gitattributes; printf 'c\\0a\\0p\\0\\n\\0' > app.rc; git add -A; git commit -qm Begin`, agent: `printf 'c\\0a\\0p\\0\\n\\0m\\0\\n\\0' > app.rc; printf 'n\\0\\n\\0' > new.rc` },
  {
    name: 'working-tree-encoding that an untouched file does not fit',
    origin: `echo hello > README.md; printf '\\377\\376c\\0a\\0p\\0' > app.rc; git add -A; git commit -qm Begin; printf '*.rc text working-tree-encoding=UTF-16LE\n' > .gitattributes; git add .gitattributes; git commit -qm Attributes`,
    agent: 'echo fixed >> README.md',
    promoted: { 'README.md': 'M' },
  },
  {
    name: 'working-tree-encoding that a new file does not fit',
    origin: `echo hello > README.md; printf '*.rc text working-tree-encoding=UTF-16LE\n' > .gitattributes; git add -A; git commit -qm Begin`,
    agent: `echo fixed >> README.md; printf '\\377\\376x\\0' > bad.rc`,
    unsaved: ['bad.rc'],
    promoted: { 'README.md': 'M' },
    notHeld: /^(file bad.rc|status)$/,
  },
  { name: 'ident', origin: `printf '*.c ident\n' > .gitattributes; echo '/* $Id$ */' > a.c; echo '/* $Id$ */' > b.c; git add -A; git commit -qm Begin`, agent: 'echo more >> a.c; echo "/* \\$Id\\$ */" > c.c' },
  { name: 'CRLF blobs under a rule that came later', origin: crlfOrigin("'*.txt text'"), agent: 'echo work >> README.md; printf "a\\r\\nb\\r\\nc\\r\\n" > f3.txt' },
  { name: 'CRLF blobs under text=auto', origin: crlfOrigin("'* text=auto'"), agent: 'echo work >> README.md' },
  { name: 'CRLF blobs under eol=crlf', origin: crlfOrigin("'*.txt text eol=crlf'"), agent: 'echo work >> README.md; printf "new\\r\\n" > new.txt' },
  { name: 'CRLF blobs, and the agent adds the rule', phase: 'step', origin: `for i in 1 2 3; do printf 'a\\r\\nb\\r\\n' > f$i.txt; done; echo hello > README.md; git add -A; git commit -qm Begin`, agent: "echo '*.txt text' > .gitattributes; echo work >> README.md" },
  { name: 'autocrlf of the user', origin: crlfOrigin("'*.png binary'"), setup: 'git config --global core.autocrlf input; git config --global core.safecrlf true', agent: 'printf "x\\r\\ny\\n" > mixed.txt; echo work >> README.md', promoted: { 'README.md': 'M', 'mixed.txt': 'A' } },
  { name: 'split index', agent: 'git update-index --split-index; echo x >> file-1; git add file-1; echo y >> file-1; git add file-2; git rm -q --cached file-3' },
  { name: 'untracked cache, index version 4, many files', agent: 'git config feature.manyFiles true; git config index.version 4; git update-index --index-version 4 --untracked-cache; git status >/dev/null; echo x > new; echo y >> file-1; git add file-1' },
  { name: 'the ignore file of the user', setup: "mkdir -p ~/.config/git; echo '**/settings.local.json' >> ~/.config/git/ignore", agent: 'mkdir .claude; echo secret > .claude/settings.local.json; echo shared > .claude/settings.json' },
  { name: 'an ignore file that the configuration names', setup: "echo '*.private' > ~/ign; git config --global core.excludesFile '~/ign'", agent: 'echo secret > x.private; echo y > y.txt' },
  { name: 'info/exclude and info/attributes', agent: "echo '*.private' >> .git/info/exclude; echo '*.crlf text eol=crlf' >> .git/info/attributes; echo secret > x.private; printf 'a\\r\\n' > a.crlf" },
  { name: 'attributes that the configuration names', setup: "echo '*.win text eol=crlf' > ~/attr; git config --global core.attributesFile '~/attr'", agent: "printf 'a\\r\\n' > a.win" },
  { name: 'a file that became ignored, and an ignored one that is tracked', agent: "echo 'file-*' >> .gitignore; echo x >> file-1; rm file-2; echo forced > ignored-no.log; git add -f ignored-no.log; echo never > other.log" },
  { name: 'a tracked file that became an ignored folder', origin: "printf 'build\\n' > .gitignore; echo t > build; git add -f -A; git commit -qm Begin", agent: 'rm build; mkdir build; echo x > build/out; echo y > y', notHeld: /build/ },
  { name: 'git add -f beside what is ignored', agent: 'mkdir -p ignored/sub; echo forced > ignored/forced; echo other > ignored/other; echo two > ignored/sub/two; git add -f ignored/forced ignored/sub/two; rm ignored/sub/two; mkdir ignored/sub/two; echo deep > ignored/sub/two/deep', notHeld: /ignored.sub/ },
]

function lfsOrigin(): string {
  return String.raw`echo '*.bin filter=lfs diff=lfs merge=lfs -text' > .gitattributes
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n' > real.bin
echo hello > README.md; git -c filter.lfs.clean= -c filter.lfs.process= -c filter.lfs.required=false add -A; git commit -qm Begin`
}

function crlfOrigin(rule: string): string {
  return `for i in 1 2 3 4 5; do printf 'a\\r\\nb\\r\\n' > f$i.txt; done; echo hello > README.md; git add -A; git commit -qm Begin; echo ${rule} > .gitattributes; git add .gitattributes; git commit -qm Attributes`
}
