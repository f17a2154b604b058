import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { authorProblem, messageProblem } from '../../src/job/commit-text.js'
import { branchNameProblem } from '../../src/job/names.js'
import { random } from '../chaos/random.js'
import { tries, whole } from '../whole.js'

// What is refused before it is enqueued is held against the real git, over texts made of what is special to it.
let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-git-rules-'))
  git(['init', '--quiet'])
})
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }))

function git(args: readonly string[], more: { readonly input?: string; readonly env?: Record<string, string> } = {}) {
  const env = { PATH: process.env.PATH, HOME: folder, GIT_CONFIG_NOSYSTEM: '1', LC_ALL: 'C', GIT_AUTHOR_NAME: 'A', GIT_AUTHOR_EMAIL: 'a@b', GIT_COMMITTER_NAME: 'A', GIT_COMMITTER_EMAIL: 'a@b', ...more.env }
  return spawnSync('git', args, { cwd: folder, env, input: more.input ?? '', encoding: 'utf8' })
}

function texts(seed: string, parts: readonly string[], count: number, longest: number): string[] {
  const draw = random(seed)
  return Array.from({ length: tries(count) }, () => Array.from({ length: draw.whole(0, longest) }, () => draw.pick(parts)).join(''))
}

/** As git cuts an author's name or address down. */
const cut = (text: string) => text.replace(/^[\u0000- .,:;<>"\\']+|[\u0000- .,:;<>"\\']+$/g, '')

describe('an author', () => {
  const parts = ['a', 'Ü', '日', ' ', '.', ',', ':', ';', '<', '>', '"', '\\', "'", '\n', '\r', '\t', '\u0001', '\u007f', '@', '-', 'b c']
  it.each(['name', 'address'] as const)('has the %s that git takes, and is refused where git refuses or leaves something out', (what) => {
    for (const text of ['', '.', '<>', 'Ada Lovelace', 'Sammy Davis Jr.', ' ada ', ...texts(`author ${what}`, parts, 150, 6)]) {
      const problem = authorProblem(what, text)
      const { status } = git(['commit', '--quiet', '--allow-empty', '-m', 'x'], { env: { [what === 'name' ? 'GIT_AUTHOR_NAME' : 'GIT_AUTHOR_EMAIL']: text } })
      const stored = git(['log', '-1', what === 'name' ? '--format=%an' : '--format=%ae']).stdout.replace(/\n$/, '')
      // What git leaves out in silence, also at an end, is refused.
      const taken = status === 0 && stored === cut(text) && stored !== '' && !/[\n<>]/.test(text)
      expect({ text, taken: problem === undefined }).toEqual({ text, taken })
    }
  })

  it('is refused when it holds a NUL byte or is too long for a call', () => {
    expect(authorProblem('name', 'a\0b')).toBe('holds a NUL byte')
    expect(authorProblem('name', 'a'.repeat(1_001))).toBe('is longer than 1000 bytes')
  })
})

describe('a message', () => {
  const parts = ['a', '#', '# a', ' ', '\n', '\n\n', '\t', '\r', '\v', '\f', 'Signed-off-by: A <a@b>', 'Signed-off-by:', 'Ü', '.', '---\n', 'diff --git a b']
  it('is taken when git commit takes it, and refused when that refuses', () => {
    for (const text of ['', ' \n\t\r\n', 'Signed-off-by: A <a@b>\n', 'Fix\n\nSigned-off-by: A <a@b>', ...texts('message', parts, 200, 5)]) {
      const { status } = git(['commit', '--quiet', '--allow-empty', '-F', '-'], { input: text })
      expect({ text, taken: messageProblem(text) === undefined }).toEqual({ text, taken: status === 0 })
    }
  })

  it('is refused with a NUL byte, as git commit-tree does, and when it is too long for a call', () => {
    const tree = git(['write-tree']).stdout.trim()
    expect(git(['commit-tree', tree], { input: 'a\0b' }).status).not.toBe(0)
    expect(messageProblem('a\0b')).toBe('holds a NUL byte')
    expect(messageProblem('ä'.repeat(8 * 1024))).toBeUndefined()
    expect(messageProblem(`${'ä'.repeat(8 * 1024)}.`)).toBe('is longer than 16384 bytes')
  })
})

describe('a branch name', () => {
  const parts = ['a', 'B', '/', '.', '..', '.lock', '@', '@{', '{', '-', '~', '^', ':', '?', '*', '[', ']', '\\', ' ', '\u0001', '\u007f', 'ü', 'HEAD', 'refs/', 'heads/', '日']
  it('that is taken is one that git takes', () => {
    let taken = 0
    for (const text of ['a@b', 'feature/ü', 'HEAD', '@', 'a.lock', 'a.lock/b', '-a', ...texts('branch', parts, 800, 4)]) {
      if (branchNameProblem(text) !== undefined) continue
      taken += 1
      expect({ text, status: git(['check-ref-format', '--branch', text]).status }).toEqual({ text, status: 0 })
    }
    expect(taken).toBeGreaterThan(whole ? 40 : 15)
  })

  it('that git takes is refused only where it means something else than it says, or is too long for a folder', () => {
    for (const text of texts('branch', parts, 400, 4)) {
      const means = text === 'HEAD' || text === '@' || text.startsWith('refs/') || /^@\{/.test(text)
      if (means || git(['check-ref-format', `refs/heads/${text}`]).status !== 0 || text.startsWith('-')) continue
      expect({ text, problem: branchNameProblem(text) }).toEqual({ text, problem: undefined })
    }
  })
})
