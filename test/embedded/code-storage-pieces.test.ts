import { X509Certificate } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { signatureOf } from '../../src/embedded/code-storage/api-history.js'
import { parseGrep } from '../../src/embedded/code-storage/api-search.js'
import { makeCertificate } from '../../src/embedded/code-storage/certificate.js'
import { byteRange, preconditionStatus } from '../../src/embedded/code-storage/file-conditions.js'
import { checkPattern } from '../../src/embedded/code-storage/patterns.js'
import { apiRoute } from '../../src/embedded/code-storage/routes.js'

describe('the API’s two addresses', () => {
  it.each([
    ['/api/v1/repos', { path: '/repositories' }],
    ['/api/v1/repo', { path: '/repository' }],
    ['/api/v1/repos/delete', { path: '/repository' }],
    ['/api/v1/repos/branches/diff', { path: '/repository/branches/diff' }],
    ['/api/repos', { path: '/repositories' }],
    ['/api/repos/acme%2Fweb', { path: '/repository', repository: 'acme/web' }],
    ['/api/repos/acme%2Fweb/tags/v%2F1', { path: '/repository/tags/v%2F1', repository: 'acme/web' }],
    ['/api/repos/%ff/branches', { path: '/repository/branches', repository: '%ff' }],
    ['/api/v2/repos', { path: '/api/v2/repos' }],
    ['/api/v1', { path: '/api/v1' }],
  ])('%s', (path, route) => expect(apiRoute(path)).toEqual(route))
})

const modified = 'Sat, 28 Nov 2026 12:00:00 GMT'
const asked = (headers: Record<string, string>) => (name: string) => headers[name]

describe('parts and conditions of a file', () => {
  it.each([
    [{ range: 'bytes=0-3' }, { start: 0, length: 4 }],
    [{ range: 'bytes=4-' }, { start: 4, length: 6 }],
    [{ range: 'bytes=-3' }, { start: 7, length: 3 }],
    [{ range: 'bytes=-99' }, { start: 0, length: 10 }],
    [{ range: 'bytes=8-99' }, { start: 8, length: 2 }],
    [{ range: 'bytes=10-' }, 'unsatisfiable'],
    [{ range: 'bytes=-0' }, 'unsatisfiable'],
    [{ range: 'bytes=5-2' }, null],
    [{ range: 'bytes=-' }, null],
    [{ range: 'bytes=0-1,3-4' }, null],
    [{ range: 'lines=0-1' }, null],
    [{ range: `bytes=${'9'.repeat(20)}-` }, null],
    [{ range: 'bytes=0-1', 'if-range': '"e"' }, { start: 0, length: 2 }],
    [{ range: 'bytes=0-1', 'if-range': '"other"' }, null],
    [{}, null],
  ] as const)('%j', (headers, range) => expect(byteRange(asked(headers), '"e"', modified, 10)).toEqual(range))

  it.each([
    [{ 'if-match': '"other", "e"' }, null],
    [{ 'if-match': '"other"' }, 412],
    [{ 'if-match': '*', 'if-unmodified-since': 'Fri, 27 Nov 2026 12:00:00 GMT' }, null],
    [{ 'if-unmodified-since': 'Fri, 27 Nov 2026 12:00:00 GMT' }, 412],
    [{ 'if-none-match': 'W/"e"' }, 304],
    [{ 'if-none-match': '"other"', 'if-modified-since': modified }, null],
    [{ 'if-modified-since': modified }, 304],
    [{ 'if-modified-since': 'Fri, 27 Nov 2026 12:00:00 GMT' }, null],
    [{ 'if-modified-since': 'nonsense', 'if-unmodified-since': 'nonsense' }, null],
  ] as const)('%j: %s', (headers, status) => expect(preconditionStatus(asked(headers), '"e"', modified)).toBe(status))
})

describe('what git says', () => {
  it('about matches, of paths with line breaks and of older releases too', () => {
    const output = 'c:a\n--\nb\x001\x00before\nc:a\n--\nb\x002\x003\x00a match: 1\n--\nc:d\x009\x001\x00x'
    expect([...parseGrep(output, 'c:')]).toEqual([
      { path: 'a\n--\nb', lines: [{ line_number: 1, text: 'before', type: 'context' }, { line_number: 2, text: 'a match: 1', type: 'match' }] },
      { path: 'd', lines: [{ line_number: 9, text: 'x', type: 'match' }] },
    ])
    expect([...parseGrep('c:a\x001-before\nc:a\x002:3:match\n', 'c:')][0]?.lines.map(({ type }) => type)).toEqual(['context', 'match'])
  })

  it('in a signed commit is apart from what is signed', () => {
    const [head, tail] = ['tree t\nauthor a <a> 1 +0000\ncommitter b <b> 1 +0000\n', '\nmessage\ngpgsig none\n']
    expect(signatureOf(`${head}gpgsig -----BEGIN X-----\n \n abc\n -----END X-----\n${tail}`)).toEqual({ signature: '-----BEGIN X-----\n\nabc\n-----END X-----\n', payload: head + tail })
    expect(signatureOf(head + tail)).toEqual({})
  })
})

describe('a pattern of a client’s', () => {
  it.each(['a{1,3}', 'TODO|FIXME', '(a{10}){10}', '/getUser/,+30'])('%s is taken', (pattern) => expect(checkPattern(pattern, 'p')).toBe(pattern))
  it.each(['((a{200}){200}){200}', 'a{1001}', 'a{1,32767}', 'x\0', 'x\ny', 'x'.repeat(1001)])('%j is refused', (pattern) => expect(() => checkPattern(pattern, 'p')).toThrow('p: '))
})

describe('a certificate of its own', () => {
  it('is good for its names and for a year, and vouches for itself', () => {
    const now = Date.parse('2049-06-01T00:00:00Z')
    const made = new X509Certificate(makeCertificate(['localhost', '127.0.0.1', '::1', 'fe80::1:2', 'storage.example'], now).certificate)
    expect(made.verify(made.publicKey)).toBe(true)
    expect([made.checkHost('localhost'), made.checkHost('storage.example'), made.checkHost('other.example')]).toEqual(['localhost', 'storage.example', undefined])
    expect(['127.0.0.1', '::1', 'fe80::1:2', '127.0.0.2'].map((ip) => made.checkIP(ip) !== undefined)).toEqual([true, true, true, false])
    expect([Date.parse(made.validFrom), Date.parse(made.validTo)]).toEqual([Date.parse('2049-05-31T00:00:00Z'), Date.parse('2050-06-01T00:00:00Z')])
    expect(made.ca).toBe(true)
  })
})
