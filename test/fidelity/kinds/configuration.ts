import { identity, type Kind } from './kind.js'

/** What is configured, by the agent, its user or its image, and what that changes in what git prints or does. */

/** Settings that change what git prints; a script that reads git's output must not be misled by them. */
const talkative = [
  'color.ui always', 'color.status always', 'color.branch always', 'column.ui always', 'core.abbrev 4', 'core.pager "tr a-z A-Z"', 'core.quotePath false', 'status.short true', 'status.branch true',
  'status.showUntrackedFiles no', 'status.relativePaths true', 'status.showStash true', 'status.aheadBehind true', 'log.date relative', 'log.decorate full', 'log.showSignature true', 'log.abbrevCommit true',
  'format.pretty "format:%an"', 'diff.noprefix true', 'diff.mnemonicPrefix true', 'diff.external "echo external"', 'diff.ignoreSubmodules all', 'diff.renames copies', 'diff.relative true', 'diff.orderFile /etc/no-such',
  'core.warnAmbiguousRefs false', 'core.logAllRefUpdates false', 'stash.showPatch true', 'tag.sort -creatordate', 'branch.sort -committerdate', 'versionsort.suffix -rc', 'advice.detachedHead true',
  'core.commentChar ";"', 'core.whitespace trailing-space,-space-before-tab', 'apply.whitespace error', 'core.checkStat minimal', 'core.trustctime false', 'pager.status true', 'pager.config "tr a-z A-Z"', 'interactive.singleKey true',
]
const configure = (settings: readonly string[], scope = '') => settings.map((setting) => `git config ${scope} ${setting}`).join('\n')

export const configuration: readonly Kind[] = [
  { name: 'settings that change what git prints', agent: `${identity}\n${configure(talkative)}\nmkdir sub; echo x > 'sub/ü'; echo y >> file-1; git add -f sub; git stash -q -- file-1; echo z > z` },
  { name: 'the same for the user', setup: `${identity}\n${configure(talkative, '--global')}`, agent: "mkdir sub; echo x > 'sub/ü'; echo y >> file-1; git add sub; git -c color.ui=false -c core.pager=cat stash -q -- file-1; echo z > z" },
  { name: 'the local identity', agent: 'git config user.name "Ägent \\"Q\\""; git config user.email agent@example.invalid; git checkout -q -b fix/bug; echo x > x' },
  { name: 'configuration of every form', agent: String.raw`git config --add multi.value one; git config --add multi.value two; git config 'odd.a "b" \ c.key' 'v'; git config line.break $'two\nlines\ttab'; git config space.both '  x  '; git config hash.tag 'a # b ; c'; printf '[bool]\n\tflag\n\tempty =\n[Case "Kept"]\n\tKey = V\n' >> .git/config; git config 'url.x.y' z; echo x > x` },
  { name: 'configuration of the user of every form', setup: identity, agent: String.raw`git config --global --add multi.value one; git config --global --add multi.value two; git config --global line.break $'two\nlines'; git config --global alias.st 'status --short'; git config --global alias.add '!false'; mkdir -p ~/.config/git; git config --file ~/.config/git/config xdg.key v; echo x > x` },
  { name: 'configuration that set-up makes each time', setup: `${identity}; git config --global --add safe.directory '*'; git config core.editor vi; git config --add set.up once`, agent: 'git config core.editor nano; git config --unset-all set.up; echo x > x' },
  { name: 'configuration of one work tree', agent: `git config extensions.worktreeConfig true; git config --worktree user.name Here; git config --worktree core.sparseCheckout false; echo x > x` },
  { name: 'signed commits by a program that is missing', agent: 'git config commit.gpgSign true; git config tag.gpgSign true; git config gpg.program no-such-gpg; git config push.gpgSign true; git config user.useConfigOnly true; git config init.defaultBranch trunk; echo x > x; git -c user.name=a -c user.email=a@b -c commit.gpgSign=false commit -q --allow-empty -m c' , promoted: { x: 'A' } },
  { name: 'hooks that refuse everything', agent: `mkdir -p .git/hooks; for h in pre-commit commit-msg pre-push post-checkout post-index-change reference-transaction; do printf '#!/bin/sh\\necho ran >> ~/hook-ran\\nexit 1\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done; echo x > x`, promoted: { x: 'A' } },
  { name: 'hooks in a folder of the repository', agent: `mkdir .husky; printf '#!/bin/sh\\nexit 0\\n' > .husky/pre-commit; chmod +x .husky/pre-commit; git config core.hooksPath .husky; echo x > x` },
  { name: 'checks of what is fetched and sent', agent: `${identity}; git config fetch.fsckObjects true; git config transfer.fsckObjects true; git config receive.fsckObjects true; git config core.fsync all; git config core.sharedRepository 0660; echo x > x; git add x; git commit -qm x` },
  { name: 'aliases, includes, credentials and rewritten URLs', agent: `${identity}; git config alias.commit '!false'; git config include.path ../.gitconfig-here; printf '[user]\\n\\tsigningkey = here\\n' > .gitconfig-here; git config credential.helper store; git config url.https://x@example.invalid/.insteadOf https://y/; git config http.extraHeader 'Authorization: secret'; git config remote.with.url https://user:pass@example.invalid/x.git; git config remote.with.fetch '+refs/heads/*:refs/remotes/with/*'; echo x > x`, notHeld: /^config$/ },
  { name: 'rewritten URLs, includes and users of ssh', agent: 'git config --global url.https://mirror.example.invalid/.insteadOf https://github.com/; git config url.ssh://git@github.com/.insteadOf https://gitlab.com/; git config include.path ../.gitconfig-here; git remote add up ssh://git@example.invalid/o/r.git; echo x > x' },
  { name: 'core.worktree, core.bare and fsmonitor', agent: `git config core.fsmonitor '!touch ~/fsmonitor-ran; exit 1' ; echo x > x; echo y >> file-1`, notHeld: /^config$/ },
  { name: 'an environment full of GIT_ variables', env: { GIT_DIR: '/nonexistent/git', GIT_WORK_TREE: '/nonexistent', GIT_INDEX_FILE: '/nonexistent/index', GIT_TRACE: '1', GIT_OBJECT_DIRECTORY: '/nonexistent/objects' }, agent: 'unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_TRACE GIT_OBJECT_DIRECTORY; echo x > x; git add x; echo y > y', promoted: { x: 'A', y: 'A' } },
  { name: 'an environment that configures git', env: { GIT_CONFIG_COUNT: '2', GIT_CONFIG_KEY_0: 'core.excludesFile', GIT_CONFIG_VALUE_0: '/dev/null', GIT_CONFIG_KEY_1: 'color.ui', GIT_CONFIG_VALUE_1: 'always', GIT_LITERAL_PATHSPECS: '1', GIT_TERMINAL_PROMPT: '1', GIT_AUTHOR_NAME: 'Image', GIT_AUTHOR_EMAIL: 'image@example.invalid', GIT_COMMITTER_DATE: '2001-01-01T00:00:00Z', GREP_OPTIONS: '--color=always', LS_COLORS: 'x', POSIXLY_CORRECT: '1', LC_ALL: 'C.UTF-8', TZ: 'Asia/Kathmandu' }, agent: `${identity}; echo x > 'ü'; git add -A; git commit -qm x; echo y > y` },
  {
    name: 'a configuration and ignore rules of the user that lie elsewhere',
    env: { GIT_CONFIG_GLOBAL: '~/elsewhere/config', XDG_CONFIG_HOME: '~/xdg' },
    setup: `mkdir -p ~/elsewhere ~/xdg/git; echo '*.hidden' > ~/xdg/git/ignore; ${identity}`,
    agent: 'git config --global alias.mine status; echo 1 > a.hidden; echo 2 > seen',
  },
  { name: 'a global git configuration in the environment', env: { GIT_CONFIG_GLOBAL: '/dev/null' }, agent: 'echo x > x' },
  { name: 'an index that counts what git writes as unchanged', setup: `${identity}; git config --global core.ignoreStat true`, agent: 'echo x >> file-1; echo y > y', promoted: { 'file-1': 'M', y: 'A' } },
  { name: 'an umask of its own', agent: 'umask 077; echo x > x; mkdir d; echo y > d/y; echo z >> file-1' },
]
