import { readFileSync, readdirSync } from 'node:fs'
import { expect, it } from 'vitest'
import * as errors from '../../src/job/errors.js'
import { codeOf, courseCodes } from '../../src/job/error-codes.js'

const root = new URL('../../', import.meta.url)
const page = readFileSync(new URL('docs/errors.md', root), 'utf8')
const rows = [...page.matchAll(/^\| `(SWY_[A-Z_]+)` \| (.+) \| (.+) \|$/gm)].map(([, code = '', cause = '', mend = '']) => ({ code, cause, mend }))
const sources = readdirSync(new URL('src/', root), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => ({ path, text: readFileSync(new URL(`src/${path}`, root), 'utf8') }))

it('docs/errors.md lists each code once, in the code’s order, with its cause and its mend', () => {
  expect(rows.map(({ code }) => code)).toEqual([...errors.errorCodes])
  expect(page.match(/SWY_[A-Z_]+/g)?.filter((code) => !(errors.errorCodes as readonly string[]).includes(code))).toEqual([])
  for (const { code, cause, mend } of rows) expect({ code, cause: cause.length > 20, mend: mend.length > 5 }).toEqual({ code, cause: true, mend: true })
})

it('no code is written in the source that is not listed, and none is listed that nothing gives', () => {
  const given = new Set([
    ...sources.filter(({ path }) => !path.endsWith('error-codes.ts')).flatMap(({ text }) => text.match(/SWY_[A-Z_]+/g) ?? []),
    ...errors.infrastructureErrorKinds.flatMap((kind) => errors.errorOwners.map((owner) => codeOf(kind, owner))),
    ...Object.values(courseCodes),
  ])
  expect([...given].sort()).toEqual([...errors.errorCodes].sort())
})

it('every error class that users meet has a code of its own', () => {
  const classes = sources.flatMap(({ text }) => [...text.matchAll(/^export class (\w+) extends SwitchyardError \{([\s\S]*?)\n\}/gm)]).map(([, name = '', body = '']) => ({ name, coded: /readonly code\b/.test(body) }))
  expect(classes.length).toBeGreaterThan(6)
  expect(classes.filter(({ coded }) => !coded)).toEqual([])
})
