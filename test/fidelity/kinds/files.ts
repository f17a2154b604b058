import { identity, type Kind } from './kind.js'

/** What lies in the work tree: types, modes, sizes, and names that something could take for something else. */

const oddNames = String.raw`python3 - <<'PY' || { echo no python; exit 1; }
import os
names=[b'new\nline',b'tab\tname',b'trail ',b' lead',b'-rf',b'--help',b':(glob)x',b':(exclude)y',b':!z',b':^c',b'^caret',b'quote"s',b"it's",b'back\\slash',b'oct\\303\\251',b'emoji-\xf0\x9f\x92\xa9',b'bad-\xff\xfe-utf8',b'nfd-e\xcc\x81',b'nfc-\xc3\xa9',b'[a]*?',b'$(id)',b'${"`"}id${"`"}',b'#hash',b'%41',b'n'*255,b'\x01ctl',b'CON',b'nul.txt',b'Readme.MD',b'readme.md',b'a:b',b'~tilde',b'!bang',b'\xe2\x80\xaertl',b'"lead',b'"both"',b'cr\r',b'end\n',b'\n',b'@{u}',b'HEAD',b'refs',b'.gitkeep',b'.git.bak',b'.gitx',b'x.git',b'.lock',b'index.lock',b'...',b'..x',b'.x',b'x.']
for n in names:
    open(n,'wb').write(b'content of '+n+b'\n\x00\xff')
    d=b'dir '+n[:200]
    os.makedirs(d,exist_ok=True)
    open(d+b'/f','wb').write(n)
    os.symlink(b'to '+n,b'link '+n[:200])
PY`

export const files: readonly Kind[] = [
  { name: 'names with every odd byte', agent: oddNames },
  { name: 'names with every odd byte, committed, then changed', agent: `${identity}; ${oddNames}\ngit add -A; git commit -qm names; for f in *; do [ ! -f "$f" ] || [ -L "$f" ] || echo more >> "./$f"; done; rm -rf ./dir*line; git mv -- -rf moved` },
  { name: 'names with odd bytes under core.quotePath=false', agent: `git config core.quotePath false; ${oddNames}` },
  { name: 'very long paths', agent: 'p=$(printf "d%.0s" $(seq 200)); d=.; for i in $(seq 12); do d=$d/$p; done; mkdir -p $d; echo deep > $d/file' },
  { name: 'names in other cases', agent: 'echo 1 > Case; echo 2 > CASE; echo 3 > case; mkdir SRC; echo 4 > SRC/a' },
  { name: '.git in another case', agent: 'mkdir .GIT sub; echo x > .GIT/x; echo y > sub/.Git; echo z > git~1; echo work >> README.md', unsaved: ['.GIT/x', 'git~1', 'sub/.Git'], promoted: { 'README.md': 'M' }, notHeld: /^(file (\.GIT\/x|git~1|sub\/\.Git)|folder (\.GIT|sub)|status)$/ },
  { name: '.gitmodules that is a link', agent: 'ln -s README.md .gitmodules; echo work >> README.md', unsaved: ['.gitmodules'], promoted: { 'README.md': 'M' }, notHeld: /^(file \.gitmodules|status)$/ },
  { name: '.gitattributes and .gitignore that are links, and one that is a folder', agent: 'rm .gitignore; ln -s README.md .gitignore; mkdir -p in/.gitignore; echo x > in/.gitignore/x; mkdir sub; ln -s nowhere sub/.gitattributes; ln -s nowhere sub/.gitignore' },
  { name: 'a .gitmodules that is no configuration', agent: 'echo "[submodule" > .gitmodules; echo work >> README.md' },
  { name: 'a .gitattributes with nonsense', agent: String.raw`printf '[attr]x y z\n"bad\\q text\n!neg text\n%s\n' "$(head -c 2000 /dev/zero | tr '\0' a)" > .gitattributes; echo work >> README.md` },
  { name: 'a folder like a repository without a work tree', agent: 'git init -q --bare store; echo x >> README.md; cp -r store copy.git' },
  { name: 'deleted files and folders', agent: 'rm file-1 README.md; rm -r src deep' },
  { name: 'every file deleted', agent: 'rm -rf -- * .gitignore' },
  { name: 'everything moved into a folder', agent: 'mkdir moved; for f in *; do [ "$f" = moved ] || mv -- "$f" moved/; done' },
  { name: 'empty folders', agent: 'mkdir -p out dist/sub/sub "odd\n" ignored/inner; rm docs/b; rm -r infra/c; mkdir docs/inner; chmod 700 out' },
  { name: 'modes', agent: 'chmod 644 run.sh; chmod 755 file-1; chmod 600 file-2; chmod 440 file-3; chmod 700 src; chmod 777 docs; chmod 2775 infra; chmod 4755 file-4; mkdir locked; echo l > locked/l; chmod 555 locked; echo o > other; chmod 606 other' },
  { name: 'a file whose mode alone changes, and core.fileMode is off', agent: 'git config core.fileMode false; chmod 755 file-1; echo x > new; chmod 755 new' },
  { name: 'a folder in place of a file, and the other way round', agent: 'rm file-1; mkdir file-1; echo x > file-1/x; rm -r src; echo now-a-file > src; rm -r deep; ln -s docs deep' },
  { name: 'links of every sort', agent: String.raw`ln -s loop2 loop1; ln -s loop1 loop2; ln -s /etc/hostname absolute; ln -s no/such dangling; ln -s . self; ln -s ../../.. up; ln -s $'odd\n"ü' odd; rm link; ln -s docs/b link; rm file-1; ln -s file-2 file-1; ln -s src srclink; ln -s "$(printf 'x%.0s' $(seq 3000))" long` },
  { name: 'a link that became a file or folder', agent: 'rm link; mkdir link; echo x > link/x; ln -s file-1 l2; rm l2; echo l2 > l2' },
  { name: 'a link in place of a folder with tracked files, to that very folder elsewhere', agent: 'mv src src-moved; ln -s src-moved src; echo more >> src/a' },
  { name: 'core.fileMode is off', agent: `${identity}; chmod +x file-1; git add -A; git commit -qm x; git config core.fileMode false; chmod -x file-1; chmod +x file-2; echo new > new; chmod +x new; git rm -q --cached file-3; git add -A` },
  { name: 'core.symlinks is off', agent: 'git config core.symlinks false; rm link; printf src/a > link; printf file-1 > plain' },
  { name: 'core.ignoreCase and core.precomposeUnicode', agent: String.raw`git config core.ignoreCase true; git config core.precomposeUnicode true; mv README.md readme.MD; echo x > $'e\xcc\x81'; mkdir DOCS; echo new > DOCS/new`, promoted: { 'DOCS/new': 'A', 'README.md': 'D', 'readme.MD': 'A', '"e\\314\\201"': 'A' } },
  { name: 'empty files, and one that became empty', agent: ': > new-empty; : > file-1; echo filled > empty' },
  { name: 'a large file, and one that grows by little', agent: 'head -c 30000000 /dev/zero > zeros; head -c 3000000 /dev/urandom > random; cp random random-2; echo x >> random-2; truncate -s 20M sparse' },
  { name: 'core.bigFileThreshold and pack settings', agent: `${identity}; git config core.bigFileThreshold 1k; git config pack.packSizeLimit 1m; git config pack.depth 0; git config core.compression 0; git config core.looseCompression 9; head -c 3000000 /dev/urandom > big; git add big; git commit -qm big; echo x >> big` },
  { name: 'a change of the same size in the same second', agent: 'printf "HELLO\n" > README.md; printf "B\n" > src/a' },
  { name: 'times of long ago and of the future', agent: 'printf "HELLO\n" > README.md; touch -d 1970-01-02 README.md; printf "z\n" > src/a; touch -d 2099-01-01 src/a; echo n > new; touch -d @0 new' },
  { name: 'hard links', agent: 'ln file-1 hard; echo both >> hard' },
  { name: 'a fifo and a socket', agent: 'mkfifo pipe; rm file-1; mkfifo file-1; python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\'sock\')"; echo work >> README.md', unsaved: ['file-1', 'pipe', 'sock'], promoted: { 'README.md': 'M' }, notHeld: /^(file (pipe|sock|file-1)|status|flags)$/ },
  { name: 'five thousand files in one folder', agent: 'mkdir many; seq 5000 | split -l 1 -a 4 - many/f' },
  { name: 'a tree a hundred folders deep', agent: 'd=.; for i in $(seq 100); do d=$d/$i; done; mkdir -p $d; echo x > $d/x' },
  { name: 'thousands of empty folders', agent: 'mkdir -p e/{1..50}/{1..40}' },
]
