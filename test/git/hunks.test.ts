import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { parseChangedFiles } from '../../src/git/changed-files.js'
import { filePatches, hunksOf } from '../../src/git/hunks.js'
import { shownPatch, wholeLines } from '../../src/job/patch.js'

/** What git says of two trees, and what is made of it. */
function patchOf(before: Readonly<Record<string, string>>, after: () => void, folder: string): { changed: ReturnType<typeof parseChangedFiles>; output: string } {
  const git = (...args: string[]) => execFileSync('git', ['-c', 'user.name=Test', '-c', 'user.email=test@example.invalid', ...args], { cwd: folder, encoding: 'utf8', env: { PATH: process.env['PATH'], HOME: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' } })
  git('init', '-q')
  for (const [path, text] of Object.entries(before)) writeFileSync(join(folder, path), text)
  git('add', '-A')
  git('commit', '-qm', 'before')
  after()
  git('add', '-A')
  git('commit', '-qm', 'after')
  const compare = ['diff-tree', '-r', '--find-renames', '--no-ext-diff', '--no-textconv']
  return { changed: parseChangedFiles(git(...compare, '--raw', '--numstat', '-z', 'HEAD^', 'HEAD')), output: git(...compare, '--patch', 'HEAD^', 'HEAD') }
}

it('gives each file its own lines, whatever stands in them and whatever became of it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-hunks-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const forged = 'diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n'
  const { changed, output } = patchOf({ 'a.txt': 'one\n', 'b.bin': 'a\0b', 'c.txt': 'file\n', 'd.txt': 'moved\nmoved\nmoved\n', 'e "q".txt': 'x\n', 'f.txt': 'gone\n', 'g.txt': 'no end' }, () => {
    writeFileSync(join(folder, 'a.txt'), forged)
    writeFileSync(join(folder, 'b.bin'), 'c\0d')
    unlinkSync(join(folder, 'c.txt'))
    symlinkSync('a.txt', join(folder, 'c.txt'))
    unlinkSync(join(folder, 'd.txt'))
    writeFileSync(join(folder, 'd2.txt'), 'moved\nmoved\nmoved\n')
    writeFileSync(join(folder, 'e "q".txt'), 'y\r\n')
    unlinkSync(join(folder, 'f.txt'))
    writeFileSync(join(folder, 'g.txt'), 'no end at all')
  }, folder)
  const found = hunksOf(filePatches(output, changed, true))
  expect(Object.fromEntries(found.map(({ path, text }) => [path, text]))).toEqual({
    'a.txt': `@@ -1 +1,4 @@\n-one\n${forged.replace(/^/gm, '+').replace(/\+$/, '')}`,
    'c.txt': expect.stringMatching(/^@@ -1 \+0,0 @@\n-file\n/) as string,
    'e "q".txt': '@@ -1 +1 @@\n-x\n+y\r\n',
    'f.txt': '@@ -1 +0,0 @@\n-gone\n',
    'g.txt': '@@ -1 +1 @@\n-no end\n\\ No newline at end of file\n+no end at all\n\\ No newline at end of file\n',
  })
  // Of output that was cut off the last file is left out, and no other takes its place.
  const cut = hunksOf(filePatches(output.slice(0, output.indexOf('-gone')), changed, false))
  expect(cut.map(({ path }) => path)).toEqual(['a.txt', 'c.txt', 'e "q".txt'])
})

it('bounds what is asked of a host, by whole lines', () => {
  const huge = { path: 'huge.txt', patch: `@@ -0,0 +1,9 @@\n${'+0123456789\n'.repeat(20_000)}` }
  const found = hunksOf(Array.from({ length: 20 }, () => huge))
  expect(found.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0)).toBeLessThanOrEqual(256 * 1024)
  for (const { text, cut } of found) expect([text.endsWith('9\n'), cut, text.length <= 64 * 1024]).toEqual([true, true, true])
  expect(hunksOf([{ path: 'a', patch: '' }, { path: 'b', patch: 'diff --git a/b b/b\nBinary files differ\n' }, { path: 'c', patch: '@@ -1 +1 @@\n-a\n+b\n' }])).toEqual([{ path: 'c', text: '@@ -1 +1 @@\n-a\n+b\n', cut: false }])
})

it('masks before it cuts, keeps to its bound, and lets no file take all', () => {
  const secret = 'hunter2-hunter2-hunter2'
  const mask = (text: string) => text.replaceAll(secret, '***')
  for (const maxBytes of [0, 1, 20, 100, 1_000, 32_768]) {
    for (const length of [0, 5, 60, 480, 500, 10_000]) {
      const text = `@@ -0,0 +1,3 @@\n+${'x'.repeat(length)}${secret}\n+é${secret}é\n+end\n`
      const patch = shownPatch('sha', Array.from({ length: 12 }, (_, index) => ({ path: `${index}-${secret}`, text, cut: false })), maxBytes, mask)
      const shown = JSON.stringify(patch)
      expect(shown).not.toMatch(/hunter|\ufffd/)
      expect(patch.files.reduce((sum, file) => sum + Buffer.byteLength(file.text), 0)).toBeLessThanOrEqual(maxBytes)
      for (const file of patch.files) {
        expect(Buffer.byteLength(file.text)).toBeLessThanOrEqual(Math.ceil(maxBytes / 4))
        expect(file.text === '' || file.text.endsWith('\n')).toBe(true)
        // Whatever is missing is said.
        expect(file.cut).toBe(!file.text.endsWith('+end\n'))
      }
    }
  }
  expect(shownPatch('sha', null, 100, mask)).toEqual({ commit: 'sha', files: [], known: false })
  expect([wholeLines('a\nb\nc', 4), wholeLines('a\nb', 3), wholeLines('abc', 2), wholeLines('é\né', 4)]).toEqual(['a\nb\n', 'a\nb', '', 'é\n'])
})
