import { configuration } from './configuration.js'
import { files } from './files.js'
import { history } from './history.js'
import type { Kind } from './kind.js'
import { nested } from './nested.js'
import { rules } from './rules.js'

export const kinds: Readonly<Record<string, readonly Kind[]>> = { rules, history, files, configuration, nested }

/** The names of those that every run of the tests goes through, as time allows; `npm run fidelity` takes all. */
export const inEveryRun = new RegExp(
  `^(${[
    'sparse checkout', 'skip-worktree', 'a clean and a smudge filter', 'git-crypt', 'LFS pointers', 'CRLF blobs', 'split index', 'commits and the rest', 'a rebase of own', 'a merge$',
    'an orphan branch$', 'a new .git$', 'two stashes', 'other branches', 'staged against', 'names with every odd byte$', 'empty folders', 'modes', 'the local identity',
    'nested repositories, a linked', 'a filter that fails for one', 'an index that', 'a merge under way$', 'core.ignoreCase', 'a submodule with', 'a submodule, a nested', 'operations under way',
  ].join('|')})`,
)
