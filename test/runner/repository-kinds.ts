/** Kinds of repositories and of what agents do in them, each as the shell text that makes it. */
export interface RepositoryKind {
  /** Run in a fresh work tree; all of it is committed afterwards and is where the job begins. */
  readonly base?: string
  /** Run in every sandbox right after the clone, as a job's setup. */
  readonly setup?: string
  /** What the agent does. */
  readonly work: string
  /** Whether the tree is that of the agent's own `git add -A && git write-tree`. Default true. */
  readonly asOwn?: boolean
  /** Programs that it needs. */
  readonly needs?: readonly string[]
  /** Paths, as regular expressions, of which another sandbox is promised nothing. */
  readonly loses?: RegExp
  /** What must be told as unsaved. */
  readonly unsaved?: readonly string[]
}

const commit = (message: string) => `git add -A && git commit -qm '${message}'`

export const kinds: Readonly<Record<string, RepositoryKind>> = {
  'a sparse checkout by cones, made by setup': {
    base: 'mkdir -p src docs infra; echo a >src/a; echo b >docs/b; echo c >infra/c',
    setup: 'git sparse-checkout set --cone src',
    work: 'echo fixed >>src/a; git commit -qam fix; echo more >>src/a',
  },
  'a sparse checkout without cones, with a sparse index, made by the agent': {
    base: 'mkdir -p src docs; echo a >src/a; echo b >docs/b; echo c >docs/c',
    work: "git sparse-checkout set --no-cone '/*' '!/docs/b'; git config index.sparse true; echo x >>src/a",
  },
  'skip-worktree, absent and changed': {
    base: 'echo 1 >a; echo 2 >b',
    work: 'git update-index --skip-worktree a b; rm a; echo local >b; echo x >c',
  },
  'assume-unchanged, edited and deleted': {
    base: 'echo 1 >a; echo 2 >b',
    work: 'git update-index --assume-unchanged a b; echo local >a; rm b; echo x >c',
  },
  'a clean and a smudge filter': {
    base: "printf '*.up filter=up\\n' >.gitattributes; echo ABC >x.up",
    setup: "git config filter.up.clean 'tr a-z A-Z'; git config filter.up.smudge 'tr A-Z a-z'; rm x.up; git checkout -q -- x.up",
    work: 'cat x.up; echo more >>x.up; echo new >y.up; echo z >z',
  },
  'a filter that fails, though nobody requires it': {
    base: "printf '*.sec filter=sec\\n' >.gitattributes; echo SECRET >x.sec; echo OTHER >y.sec",
    work: 'git config filter.sec.clean false; echo plain >>x.sec; echo plain >new.sec; echo ok >ok.txt',
    asOwn: false,
    unsaved: ['new.sec', 'x.sec'],
    loses: /\.sec$/,
  },
  'a filter whose program is missing, among hundreds of files': {
    base: "printf '*.sec filter=sec\\n' >.gitattributes; echo SECRET >x.sec",
    work: 'git config filter.sec.clean no-such-program; git config filter.sec.required true; echo plain >>x.sec; for i in $(seq 300); do echo $i >f$i; done; rm README.md',
    asOwn: false,
    unsaved: ['x.sec'],
    loses: /\.sec$/,
  },
  'an encoding that fits, and one that does not': {
    base: "printf '*.rc text working-tree-encoding=UTF-16LE-BOM\\n*.bad text working-tree-encoding=UTF-8\\n' >.gitattributes; printf '\\377\\376a\\0\\n\\0' >x.rc",
    work: "printf '\\377\\376b\\0\\n\\0' >x.rc; echo ok >ok.txt",
  },
  'a file that nobody touched and whose bytes do not fit its encoding': {
    base: "printf '\\377\\376c\\0' >app.rc; git add -A; git commit -qm One; printf '*.rc text working-tree-encoding=UTF-16LE\\n' >.gitattributes",
    work: 'echo fixed >>README.md',
  },
  'CRLF blobs under a text attribute': {
    base: "for i in $(seq 30); do printf 'a\\r\\nb\\r\\n' >f$i.txt; done; git add -A; git commit -qm One; printf '*.txt text\\n' >.gitattributes",
    work: 'echo work >>README.md; echo x >x.md',
  },
  'eol rules and ident': {
    base: "printf '*.bat text eol=crlf\\n*.id ident\\n' >.gitattributes; printf 'a\\r\\nb\\r\\n' >x.bat; printf '$Id$\\n' >x.id",
    work: "printf 'c\\r\\n' >>x.bat; echo y >y",
  },
  'autocrlf of the user': {
    setup: 'git config --global core.autocrlf input',
    work: "printf 'a\\r\\nb\\r\\n' >crlf.txt",
    // The user's own git wrote it with CRLF, which a checkout does not make again.
    loses: /crlf\.txt$/,
  },
  'ignore files of the user': {
    setup: 'mkdir -p ~/.config/git; echo local.json >~/.config/git/ignore; echo "*.mine" >~/mine; git config --global core.excludesFile "~/mine"',
    work: 'echo x >x.mine; echo y >y',
    loses: /\.mine$/,
  },
  'private excludes, and an ignored file that was forced': {
    base: 'printf "build/\\n" >.gitignore',
    work: 'echo "*.priv" >>.git/info/exclude; echo p >x.priv; mkdir build; echo k >build/keep; echo l >build/lose; git add -f build/keep; echo y >y; mkdir build/second; echo z >build/second/z',
    loses: /^build\/(lose|second)|\.priv$/,
  },
  'a split index, and one of version 4': {
    work: 'git update-index --split-index; echo x >x; git add x; git update-index --index-version 4; echo y >y',
  },
  'amended history': { work: "echo f >f; git add -A; git commit -q --amend -m 'Amended'; echo g >g; git add -A; git commit -qm G; echo h >h" },
  'an orphan branch': { work: "git checkout -q --orphan fresh; echo f >f; git add -A; git commit -qm 'From nothing'; echo g >g" },
  'a branch without a commit': { work: 'git checkout -q --orphan unborn; echo f >f' },
  'a detached HEAD': { work: `git checkout -q --detach; echo f >f; ${commit('Detached')}; echo g >g` },
  'a symbolic branch, tags, notes and odd refs': {
    work: `git checkout -q -b real; git symbolic-ref refs/heads/alias refs/heads/real; echo f >f; ${commit('F')}; git tag light; git tag -a -m A ann; git tag -a -m B nested ann; git notes add -m note; git update-ref refs/odd/blob "$(echo blob | git hash-object -w --stdin)"; git replace HEAD HEAD~1 2>/dev/null; git replace -d HEAD >/dev/null`,
  },
  'stashes': {
    work: 'echo one >one; git stash -q -u; echo two >>README.md; git stash -q; echo three >three; git add three; echo four >four',
  },
  'a merge with a conflict': {
    work: `git checkout -q -b side; echo side >README.md; ${commit('Side')}; git checkout -q -; echo main >README.md; ${commit('Main')}; git merge side >/dev/null; echo new >new`,
  },
  'a rebase under way': {
    work: `git checkout -q -b side; echo side >README.md; ${commit('Side')}; echo s2 >s2; ${commit('Side 2')}; git checkout -q work; echo main >README.md; ${commit('Main')}; git checkout -q side; git rebase work >/dev/null 2>&1`,
  },
  'a cherry-pick and a bisect under way': {
    work: `for i in 1 2 3 4; do echo $i >n; ${commit('N')}; done; git bisect start -q HEAD HEAD~3 >/dev/null; echo x >x`,
  },
  'staged against unstaged, intended, staged and then deleted': {
    base: 'echo 1 >a; echo 2 >b',
    work: 'echo staged >a; git add a; echo unstaged >a; echo i >i; git add -N i; : >empty; git add -N empty; echo d >d; git add d; rm d; git rm -q --cached b',
  },
  'configuration of the repository and the user': {
    setup: 'git config --global user.nickname setup',
    work: `git config user.name Agent; git config alias.st '!git status'; git config --add x.multi 1; git config --add x.multi 2; git config branch.work.description "$(printf 'two\\nlines')"; git config --global user.email agent@example.invalid; git config --global alias.co checkout; echo x >x`,
  },
  'empty folders and modes': {
    base: 'echo 1 >ro; echo 2 >private',
    work: 'mkdir -p out/deep "with space" build; chmod 444 ro; chmod 600 private; mkdir closed; echo x >closed/x; chmod 700 closed; echo y >y; chmod 750 y',
  },
  'names that are odd': {
    work: `printf x >"$(printf 'line\\nbreak')"; printf x >'quote"s'; printf x >'back\\slash'; printf x >ünï; mkdir -- -dash; printf x >-- '-dash/-f'; mkdir "$(printf 'empty\\nfolder')"; printf x >' lead'; printf x >'[a]*'; mkdir 'dir "q"'; : >'dir "q"/e'`,
  },
  'files that became other kinds of things': {
    base: 'mkdir dd; echo 1 >dd/1; echo f >file; ln -s README.md link; echo g >g',
    work: 'rm -r dd; echo now >dd; rm link; mkdir link; echo in >link/x; rm g; ln -s /etc/hostname g; rm file',
  },
  'a fifo in place of a tracked file': {
    base: 'echo f >file',
    work: 'rm file; mkfifo file; echo x >x',
    asOwn: false,
    unsaved: ['file'],
    loses: /^file$/,
  },
  'names that git refuses, also in a nested repository': {
    work: "mkdir .GIT sub; echo x >.GIT/x; echo y >sub/.Git; echo y >sub/y; echo z >'git~1'; ln -s README.md .gitmodules; git init -q nn; echo a >nn/a; mkdir nn/.GIT; echo b >nn/.GIT/b; echo ok >ok",
    asOwn: false,
    unsaved: ['.GIT/x', '.gitmodules', 'git~1', 'nn/.GIT/b', 'sub/.Git'],
    loses: /(^|\/)(\.GIT|\.Git|git~1|\.gitmodules)/,
  },
  'named pipes, also with a name that git quotes and in a nested repository': {
    work: `mkfifo pipe; echo '*.ig' >.gitignore; mkfifo x.ig; mkdir d; echo f >d/f; mkfifo d/p "$(printf 'new\\nline')"; git init -q nn; mkfifo nn/p; echo a >nn/a`,
    asOwn: false,
    unsaved: ['new\nline', 'd/p', 'nn/p', 'pipe'],
    loses: /^(pipe|x\.ig|(d|nn)\/p|new|line)$/,
  },
  'a nested repository, with commits and without': {
    work: 'git init -q mmm; echo 2 >mmm/app.js; git init -q nn; echo 3 >nn/app.js; git -C nn add -A; git -C nn commit -qm Initial; echo 4 >nn/more; git -C nn checkout -q -b feature',
    asOwn: false,
  },
  'a nested repository whose gitlink the agent has committed': {
    work: `git init -q nn; echo 3 >nn/app.js; git -C nn add -A; git -C nn commit -qm Initial; ${commit('With a gitlink')}`,
    asOwn: false,
  },
  'linked worktrees': {
    work: 'git worktree add -q .claude/worktrees/fix -b fix; echo fixed >>.claude/worktrees/fix/README.md; git -C .claude/worktrees/fix commit -qam fix; echo open >.claude/worktrees/fix/open; git worktree add -q --detach ~/beside; echo note >NOTES',
    asOwn: false,
    unsaved: ['.claude/worktrees/fix/open'],
  },
  'a submodule with a commit of its own': {
    setup: 'git init -q "$KEYS/lib"; echo l >"$KEYS/lib/l"; git -C "$KEYS/lib" add -A; GIT_AUTHOR_DATE="1700000000 +0000" GIT_COMMITTER_DATE="1700000000 +0000" git -C "$KEYS/lib" commit -qm L',
    work: `git -c protocol.file.allow=always submodule --quiet add "$KEYS/lib" vendor/lib; ${commit('Add')}; echo x >vendor/lib/x; git -C vendor/lib add -A; git -C vendor/lib commit -qm Own; echo y >vendor/lib/y`,
    asOwn: false,
    unsaved: ['vendor/lib'],
  },
  'a new .git with another history': { work: "rm -rf .git; git init -q -b main; echo f >f; git add -A; git commit -qm 'From scratch'; echo g >g" },
  'an index that is locked for ever': { work: 'echo x >x; : >.git/index.lock', asOwn: false },
  'an index that was cut': { work: 'echo x >x; head -c 100 .git/index >cut; mv cut .git/index', asOwn: false, loses: /^/ },
  'a work tree elsewhere by configuration, safecrlf, and a lying fsmonitor': {
    work: 'git config core.worktree /nowhere; git config core.safecrlf true; git config core.fsmonitor "printf token"; echo x >x',
    asOwn: false,
    // What says where the work tree lies, or names a program to be run, is not carried along; git here does not work without it.
    loses: /./,
  },
  'git-crypt, unlocked': {
    needs: ['git-crypt'],
    base: `git-crypt init >/dev/null 2>&1; git-crypt export-key "$KEYS/key"; printf 'secret.env filter=git-crypt diff=git-crypt\\nother.env filter=git-crypt diff=git-crypt\\n' >.gitattributes; echo PASSWORD=x >secret.env; echo PASSWORD=y >other.env`,
    setup: 'git-crypt unlock "$KEYS/key"',
    work: 'echo fixed >>README.md; git commit -qam fix; echo more >>other.env; cat secret.env',
  },
}
