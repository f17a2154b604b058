import { spawnSync } from 'node:child_process'
import { expect, it } from 'vitest'
import { artifactExpression, artifactPathProblem, artifactPatternProblem, isNamedBy, literalPart, NamedPaths, plainArtifactPattern } from '../../src/job/artifact-patterns.js'
import { parseJobSpec } from '../../src/job/spec.js'
import fc from '../seeded-fast-check.js'

it.each<readonly [string, readonly string[], readonly string[]]>([
  ['coverage/**', ['coverage/a', 'coverage/a/b/c.html', 'coverage/.hidden'], ['coverage', 'coverages/a', 'x/coverage/a']],
  ['report.html', ['report.html', 'report.html/inside'], ['reportXhtml', 'a/report.html', 'report.html2']],
  ['coverage', ['coverage', 'coverage/a/b'], ['coverage2/a']],
  ['*.xml', ['a.xml', '.xml', 'ü ü.xml'], ['a/b.xml', 'a.xml/b', 'a.xmlx']],
  ['**/*.xml', ['a.xml', 'a/b/c.xml'], ['a.xml/b']],
  ['a/**/b', ['a/b', 'a/x/y/b', 'a/b/c'], ['a/xb', 'b']],
  ['a/*/c?', ['a/b/cd', 'a/b/cü', 'a/b/c🙂'], ['a/b/c', 'a/b/x/cd', 'a/b/cde']],
  ['a+(b)|^$.txt', ['a+(b)|^$.txt'], ['aa(b)|^$xtxt']],
  ['**', ['a', 'a/b'], []],
])('%s names what it should, here and in the sandbox', (pattern, named, others) => {
  const awk = (path: string) => spawnSync('awk', ['$0 ~ ENVIRON["EXPRESSION"] { found = 1 } END { exit !found }'], { input: `${path}\n`, env: { PATH: process.env['PATH'], LC_ALL: 'C', EXPRESSION: artifactExpression(pattern) } }).status === 0
  for (const path of named) expect([path, isNamedBy(pattern, path), awk(path)]).toEqual([path, true, true])
  for (const path of others) expect([path, isNamedBy(pattern, path)]).toEqual([path, false])
})

it('agrees with a plain reading of the pattern, whatever it is', () => {
  const part = fc.stringMatching(/^[ab🙂?*]{1,5}$/u).filter((text) => !text.includes('**'))
  const pattern = fc.array(fc.oneof(part, fc.constant('**')), { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'))
  const path = fc.array(fc.stringMatching(/^[ab🙂]{1,5}$/u), { minLength: 1, maxLength: 6 }).map((parts) => parts.join('/'))
  fc.assert(
    fc.property(pattern, path, (wanted, given) => {
      const plain = new RegExp(artifactExpression(wanted).replaceAll('[^/][^/]?[^/]?[^/]?', '[^/]'), 'u')
      expect(isNamedBy(wanted, given)).toBe(plain.test(given))
    }),
    { numRuns: 2_000 },
  )
})

it('takes its time for no pattern', () => {
  const pattern = `${'**/a/'.repeat(80)}*a*a*a*a*a*a*a*a*a*a*b`
  const path = 'a/'.repeat(250) + 'a'.repeat(10)
  expect(isNamedBy(pattern, path)).toBe(false)
  expect(isNamedBy('*a'.repeat(100), 'a'.repeat(255))).toBe(true)
})

it('keeps nobody waiting, however many names there are for however many patterns', async () => {
  const a = (length: number) => 'a'.repeat(length)
  const patterns = [...Array.from({ length: 16 }, (_, index) => `**/*${a(100 + index)}b*`), ...Array.from({ length: 16 }, (_, index) => `**/*${'?a'.repeat(100)}${a(index)}b*`), ...Array.from({ length: 16 }, (_, index) => `**/${'a/**/*/'.repeat(50)}${index}`), '**/*c']
  const names = Array.from({ length: 40 }, (_, index) => (index % 2 === 0 ? `${a(240)}/${a(240)}${index}c` : `${'a/'.repeat(240)}${index}c`))
  const named = new NamedPaths(patterns)
  let [turns, over] = [0, false]
  const turn = () => {
    turns++
    if (!over) setImmediate(turn)
  }
  turn()
  for (const name of names) expect(await named.patternsOf(name)).toEqual(['**/*c'])
  over = true
  expect(turns).toBeGreaterThan(3)
  const timeIsUp = AbortSignal.abort(new Error('the time is up'))
  const ended = new NamedPaths(patterns, timeIsUp)
  await expect((async () => { for (;;) await ended.has(names[0] ?? '') })()).rejects.toThrow('the time is up')
})

it.each<readonly [string, RegExp]>([
  ['', /empty/], ['/etc/passwd', /absolute/], ['~/x', /home/], ['../x', /"\.\."/], ['a/../../x', /"\.\."/], ['.', /whole repository/], ['a/.GIT/x', /git/], ['a**b', /"\*\*"/], ['[a]', /\[ \]/], ['{a,b}', /\{ \}/], ['!a', /"!"/], ['a\\b', /\\/],
  ['a\nb', /control/], ['x'.repeat(600), /longer than 512/],
])('refuses the pattern %j', (pattern, problem) => {
  expect(artifactPatternProblem(pattern)).toMatch(problem)
  expect(() => parseJobSpec({ repository: 'a/b', steps: ['true'], artifacts: [pattern] })).toThrow(/artifacts\[0\]|artifacts/)
})

it.each(['../x', 'a//b', '/x', 'a/./b', '', '.', 'a\nb', 'a\u0000b', 'a\u202eb', 'a\ufffdb', 'a/.git/config', 'x'.repeat(256), `a/${'b/'.repeat(300)}`, 'a\ud800'])('takes %j for no artifact’s name', (path) => {
  expect(artifactPathProblem(path)).toBeDefined()
})

it.each(["it's \"quoted\" $(x) `y` ;&|<>*?[]{}.txt", 'ü/日本語/🙂.html', '-rf', ' leading', 'a..b', '...'])('takes %j for one', (path) => {
  expect(artifactPathProblem(path)).toBeUndefined()
})

it('is plain in the queue', () => {
  expect(parseJobSpec({ repository: 'a/b', steps: ['true'], artifacts: ['./coverage//html/', 'a'] }).artifacts).toEqual(['coverage/html', 'a'])
  expect([plainArtifactPattern('a/./b/'), literalPart('a/b/*.x'), literalPart('*'), literalPart('a/b')]).toEqual(['a/b', 'a/b', '', 'a/b'])
})
