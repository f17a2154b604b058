import { describe, expect, it } from 'vitest'
import { InfrastructureError } from '../../src/job/errors.js'
import { classify } from '../../src/providers/local/classify.js'

describe('what the operating system says, in the one vocabulary', () => {
  it.each([
    ['EAGAIN', 'capacity'],
    ['ENOMEM', 'capacity'],
    ['ENOSPC', 'capacity'],
    ['EMFILE', 'transient'],
    ['EACCES', 'provider-down'],
    ['EROFS', 'provider-down'],
    ['E2BIG', 'invalid'],
    ['EWHATEVER', 'transient'],
  ])('%s is %s', (code, kind) => {
    const error = classify('local', 'create', Object.assign(new Error(`${code}: it failed`), { code }))
    expect(error).toMatchObject({ kind, source: 'local', message: `local: create failed: ${code}: it failed` })
  })

  it('blames the provider’s other machines for no lack of descriptors of this process, and a sandbox for none', () => {
    const owner = (what: string) => classify('local', what, Object.assign(new Error('x'), { code: 'EMFILE' })).owner
    expect(['create', 'exec'].map(owner)).toEqual(['consumer-configuration', undefined])
  })

  it('leaves what is sorted already as it is', () => {
    const error = new InfrastructureError({ kind: 'sandbox-lost', source: 'local', message: 'gone' })
    expect(classify('local', 'exec', error)).toBe(error)
  })

  it('takes anything else for a passing fault', () => {
    expect(classify('local', 'exec', 'odd')).toMatchObject({ kind: 'transient', message: 'local: exec failed: odd' })
  })
})
