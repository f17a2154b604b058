import { identity, type Kind } from './kind.js'

/** Repositories within the repository, linked work trees, submodules. */

const submoduleOrigin = String.raw`git init -q "$HOME/sub"; (cd "$HOME/sub"; [ -f s ] || { echo s > s; git add -A; git commit -qm s; })
echo hello > README.md
printf '[submodule "a"]\n\tpath = vendor/müll\n\turl = https://example.invalid/a.git\n[submodule "b"]\n\tpath = vendor/b c\n\turl = https://example.invalid/b.git\n' > .gitmodules
git add -A; for p in 'vendor/müll' 'vendor/b c'; do git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,"$p"; done; git commit -qm Begin`

/** A repository in the home that is the same each time that it is made. */
const from = String.raw`git init -q -b main "$HOME/from"; (cd "$HOME/from"; [ -f t ] || { echo s > s; echo t > t; git add -A; export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000' GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b; git commit -qm s; })`

/** As git prints them. */
const quotedNames = [String.raw`\"both\"`, String.raw`back\\slash`, String.raw`bad\377`, String.raw`bell\a\b\v\f\r`, String.raw`end\n`, String.raw`mid\ndle`, String.raw`oct\\303\\\\n`, String.raw`tab\tname`]

export const nested: readonly Kind[] = [
  { name: 'a nested repository without a commit', agent: 'mkdir aaa zzz; git init -q mmm; echo 1 > aaa/f; echo 2 > mmm/app.js; mkdir mmm/src; echo 3 > mmm/src/x; echo 4 > zzz/f', promoted: { 'aaa/f': 'A', 'mmm/app.js': 'A', 'mmm/src/x': 'A', 'zzz/f': 'A' } },
  { name: 'a nested repository with commits', agent: `${identity}; git init -q nn; cd nn; echo 3 > app.js; git add -A; git commit -qm Initial; echo more >> app.js; echo new > new; cd ..; echo z > z`, promoted: { 'nn/app.js': 'A', 'nn/new': 'A', z: 'A' } },
  { name: 'a nested repository with a name of odd bytes', agent: String.raw`${identity}; d=$'ü "n\n\xff'; git init -q "$d"; cd "$d"; echo 3 > app.js; git add -A; git commit -qm Initial; cd ..; git init -q -- '-x'; echo 5 > ./-x/y`, promoted: { '-x/y': 'A', '"\\303\\274 \\"n\\n\\377/app.js"': 'A' } },
  {
    name: 'nested repositories, a linked work tree and a submodule whose names are what git quotes',
    agent: String.raw`${identity}; git init -q ~/sub; (cd ~/sub; echo s > s; git add -A; git commit -qm s)
for d in $'end\n' $'mid\ndle' 'back\slash' 'oct\303\\n' '"both"' $'tab\tname' $'bad\xff' 'trail ' ' lead' $'bell\a\b\v\f\r'; do git init -q "r $d"; (cd "r $d"; echo 1 > a; echo 2 > $'odd\n"\\'; git add -A; git commit -qm r; git checkout -q -b topic; echo more >> a); done
git worktree add -q $'wt\n"q"\\t' -b wt; (cd $'wt\n"q"\\t'; echo w > w; git add -A; git commit -qm w; echo dirty > $'new\t')
git -c protocol.file.allow=always submodule --quiet add ~/sub 'vendor/s\"ü b'; git commit -qm submodule -- .gitmodules 'vendor/s\"ü b'; git config 'submodule.vendor/s\"ü b.url' https://example.invalid/s; cd 'vendor/s\"ü b'; git remote set-url origin https://example.invalid/s; echo dirty >> s`,
    unsaved: ['wt\n"q"\\t/new\t'],
    promoted: Object.fromEntries([
      '.gitmodules', String.raw`"vendor/s\\\"\303\274 b"`, 'r  lead/a', 'r trail /a',
      ...quotedNames.map((name) => `"r ${name}/a"`),
      ...[' lead', 'trail ', ...quotedNames].map((name) => String.raw`"r ${name}/odd\n\"\\"`),
    ].map((path) => [path, 'A'])),
  },
  { name: 'a nested repository with names that git refuses, and a pipe', agent: `${identity}; git init -q nn; cd nn; echo 1 > a; mkdir .GIT 'ü'; echo 2 > .GIT/b; echo 3 > 'ü/git~1'; mkfifo pipe; git init -q in; echo 4 > in/.Git`, unsaved: ['nn/.GIT/b', 'nn/in/.Git', 'nn/pipe', 'nn/ü/git~1'], promoted: { 'nn/a': 'A' }, notHeld: /git~1|\.GIT|\.Git|pipe|status|folder nn: /i },
  { name: 'a nested repository with rules of its own', agent: `${identity}; git init -q nn; cd nn; echo '*.tmp' > .gitignore; echo hidden > .git/info/exclude; echo 1 > a; echo 2 > b.tmp; echo 3 > hidden; git add -A; git commit -qm Initial; git checkout -q -b topic; git stash -q || :; cd ..`, promoted: { 'nn/.gitignore': 'A', 'nn/a': 'A' } },
  { name: 'a nested repository within a nested one', agent: `${identity}; git init -q o; cd o; echo 1 > a; git add -A; git commit -qm o; git init -q i; cd i; echo 2 > b; git add -A; git commit -qm i; cd ../..`, promoted: { 'o/a': 'A', 'o/i/b': 'A' } },
  { name: 'a nested repository in place of a tracked folder', agent: `${identity}; cd src; git init -q; echo new > new; git add -A; git commit -qm src; cd ..; echo more >> src/a`, promoted: { 'src/a': 'M', 'src/new': 'A' } },
  { name: 'a nested repository in an ignored folder', agent: `${identity}; mkdir ignored; git init -q ignored/r; (cd ignored/r; echo 1 > a; git add -A; git commit -qm r); echo z > z` },
  { name: 'a clone within the repository', agent: `${identity}; git init -q ~/other; (cd ~/other; echo o > o; git add -A; git commit -qm o); git clone -q ~/other third_party/other; git -C third_party/other remote set-url origin https://example.invalid/other; echo z > z`, promoted: { 'third_party/other/o': 'A', z: 'A' } },
  { name: 'a folder whose .git is rubbish', agent: 'mkdir a b c d; echo rubbish > a/.git; echo 1 > a/f; mkdir b/.git; echo 2 > b/f; mkdir -p c/.git/objects c/.git/refs; echo junk > c/.git/HEAD; echo 3 > c/f; ln -s /nonexistent d/.git; echo 4 > d/f; echo z > z', promoted: { 'a/f': 'A', 'b/f': 'A', 'c/f': 'A', 'd/f': 'A', z: 'A' }, notHeld: /^(file )?[abcd](: |\/)/ },
  { name: 'a nested repository added with add -f and committed as a gitlink', agent: `${identity}; git init -q nn; (cd nn; echo 3 > app.js; git add -A; git commit -qm Initial); git add nn 2>/dev/null; git commit -qm gitlink; echo z > z`, promoted: { 'nn/app.js': 'A', z: 'A' } },
  { name: 'a linked work tree within', agent: `${identity}; git worktree add -q .claude/worktrees/fix -b fix; (cd .claude/worktrees/fix; echo fixed >> README.md; git commit -qam fix; echo dirty >> file-1; echo new > new); echo note > NOTES`, promoted: { NOTES: 'A' }, unsaved: ['.claude/worktrees/fix/file-1', '.claude/worktrees/fix/new'] },
  { name: 'a linked work tree outside, clean', agent: `${identity}; git worktree add -q ../elsewhere -b elsewhere; (cd ../elsewhere; echo e > e; git add -A; git commit -qm e); echo note > NOTES`, promoted: { NOTES: 'A' } },
  { name: 'a linked work tree that is gone', agent: `${identity}; git worktree add -q gone -b gone; rm -rf gone; echo note > NOTES`, notHeld: /^worktrees$/ },
  { name: 'a detached linked work tree', agent: `${identity}; git worktree add -q --detach wt; (cd wt; echo e > e; git add -A; git commit -qm e); echo note > NOTES`, promoted: { NOTES: 'A' } },
  { name: 'submodules that are not there', origin: submoduleOrigin, agent: 'echo work >> README.md' },
  { name: 'submodules that became plain files', origin: submoduleOrigin, agent: `${identity}; for p in 'vendor/müll' 'vendor/b c'; do rm -rf "$p"; mkdir -p "$p"; echo inlined > "$p/file.txt"; done; git rm -q --cached 'vendor/müll' 'vendor/b c'; git rm -qf .gitmodules; git add -A; git commit -qm inline` },
  { name: 'submodules with files in their folders', origin: submoduleOrigin, agent: "mkdir -p 'vendor/müll'; echo inside > 'vendor/müll/x'; echo work >> README.md", unsaved: ['vendor/müll'], promoted: { 'README.md': 'M' }, notHeld: /^file vendor/ },
  { name: 'a submodule that is removed', origin: submoduleOrigin, agent: "git rm -q --cached 'vendor/b c'; rm -rf 'vendor/b c'; git config -f .gitmodules --remove-section submodule.b" },
  { name: 'a submodule with work in it', agent: `${identity}; git init -q ~/sub; (cd ~/sub; echo s > s; git add -A; git commit -qm s); git -c protocol.file.allow=always submodule --quiet add ~/sub 'vendor/sü b'; git commit -qm submodule; git config 'submodule.vendor/sü b.url' https://example.invalid/s; cd 'vendor/sü b'; git remote set-url origin https://example.invalid/s; echo more >> s; git commit -qam inner; echo dirty >> s; echo new > new`, unsaved: ['vendor/sü b'], promoted: { '.gitmodules': 'A', '"vendor/s\\303\\274 b"': 'A' } },
  {
    name: 'a submodule within a submodule, one whose git folder lies in it, and one in a linked worktree that is locked',
    agent: `${identity}; git init -q ~/inner; (cd ~/inner; echo i > i; git add -A; git commit -qm i); git init -q ~/sub; add='git -c protocol.file.allow=always submodule --quiet'; (cd ~/sub; echo s > s; git add -A; git commit -qm s; $add add ~/inner in; git commit -qm in)
$add add ~/sub sub; git init -q lib; (cd lib; echo l > l; git add -A; git commit -qm l); $add add ./lib lib; git config submodule.lib.url https://example.invalid/l; $add update --init --recursive sub; git commit -qm submodules; git worktree add -q ../w -b w; (cd ../w; $add update --init sub); git worktree lock --reason why ../w
git config submodule.sub.url https://example.invalid/s; git -C sub config submodule.in.url https://example.invalid/i; for r in sub sub/in ../w/sub; do git -C $r remote set-url origin https://example.invalid/r; done; (cd sub/in; echo more >> i; git commit -qam more; echo dirty >> i; echo new > new); (cd ../w/sub; echo more >> s; git commit -qam more; echo new > new); (cd lib; echo more >> l)
git -C ../w/sub status --short >&2; echo x > x`,
    promoted: { '.gitmodules': 'A', lib: 'A', sub: 'A', x: 'A' },
  },
  {
    name: 'a submodule, a nested repository and a linked worktree that setup makes each time, with work in them',
    origin: `${from}; echo hello > README.md; for i in 1 2; do echo $i > file-$i; done; printf '[submodule "lib"]\\n\\tpath = lib\\n\\turl = https://example.invalid/lib\\n' > .gitmodules; git add -A; git update-index --add --cacheinfo "160000,$(git -C "$HOME/from" rev-parse HEAD),lib"; git commit -qm Begin`,
    setup: `${from}; git config submodule.lib.url "$HOME/from"; git -c protocol.file.allow=always submodule --quiet update --init; git config submodule.lib.url https://example.invalid/lib; [ -e third/.git ] || { rm -rf third; git clone -q "$HOME/from" third; }
for r in lib third; do git -C $r remote set-url origin https://example.invalid/; done; echo '*.o' >> .git/modules/lib/info/exclude; echo built > lib/built.o; git worktree add -q wt -b wt`,
    agent: `${identity}; (cd lib; git checkout -q -b work; echo more >> s; git commit -qam more; git rm -q t; echo stashed >> s; git stash -q -- s; echo new > new; echo st > st; git add st); (cd third; echo more >> s; git commit -qam more; git rm -q t; echo dirty >> s; echo new > new)
cd wt; echo w > w; git rm -q file-2; git add w; git commit -qm w; echo dirty >> file-1; cd ..; echo x > x`,
    unsaved: ['lib', 'wt/file-1'],
    promoted: { x: 'A', 'third/s': 'A', 'third/new': 'A' },
  },
  { name: 'a submodule deinitialised', agent: `${identity}; git init -q ~/sub; (cd ~/sub; echo s > s; git add -A; git commit -qm s); git -c protocol.file.allow=always submodule --quiet add ~/sub sub; git commit -qm submodule; git submodule --quiet deinit -f sub` },
]
