import { spawnSync } from 'node:child_process'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { StreamRedactor } from '../../src/consumers/output/redaction.js'
import { escapedForms, everyEscapedForm } from '../../src/consumers/output/secret-forms.js'
import { SecretPatterns } from '../../src/consumers/output/secret-patterns.js'
import fc from '../seeded-fast-check.js'
import { tries } from '../whole.js'

const letters = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789')
const marks = Array.from('!"#$%&\'()*+,-./:;<=>?@[\\]^_{|}~`')
const text = (units: readonly string[], length: number) => fc.string({ unit: fc.constantFrom(...units), minLength: length, maxLength: length })
const pem = text([...letters, '+', '/'], 64).chain((line) => text([...letters, '+', '/'], 30).map((last) => `-----BEGIN KEY-----\n${line}\n${Array.from(line).reverse().join('')}\n${last}==\n-----END KEY-----\n`))

/** What secrets look like: tokens, passphrases with every mark, base64, keys of several lines, JSON documents, words beyond ASCII. */
const secret = fc.oneof(
  fc.integer({ min: 12, max: 40 }).chain((length) => text(letters, length)),
  fc.integer({ min: 12, max: 40 }).chain((length) => text([...letters, ...marks], length)),
  fc.uint8Array({ minLength: 16, maxLength: 48 }).map((bytes) => Buffer.from(bytes).toString('base64')),
  pem,
  fc.tuple(text(letters, 24), pem).map(([key, block]) => JSON.stringify({ type: 'account', key, private_key: block }, null, 2)),
  fc.tuple(text(letters, 10), text([...letters, ...marks], 10)).map(([left, right]) => `${left} ${right}`),
  text([...letters, 'é', 'ü', '漢'], 20),
)

const wrapped = (form: string, columns: number) => form.replace(new RegExp(`.{${columns}}`, 'g'), '$&\n')
const base64 = (form: string) => Buffer.from(form).toString('base64')
const hex = (form: string) => Buffer.from(form).toString('hex')
const xml = (form: string) => form.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
const longestLine = (form: string) => form.trim().split('\n').toSorted((one, other) => other.length - one.length)[0] ?? ''
const ascii = (form: string) => JSON.stringify(form).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

const forms: Readonly<Record<string, (secret: string) => string>> = {
  plain: (s) => s,
  trimmed: (s) => s.trim(),
  'unquoted in a shell': (s) => s.split(/\s+/).join(' '),
  'indented lines': (s) => s.split('\n').map((line) => `    ${line}`).join('\n'),
  'quoted lines': (s) => s.split('\n').map((line) => `  | ${line}`).join('\n'),
  'CRLF line ends': (s) => s.replace(/\n/g, '\r\n'),
  'one line of it': longestLine,
  'coloured lines': (s) => s.split('\n').map((line) => `\x1b[31m${line}\x1b[0m`).join('\n'),
  base64: base64,
  'base64, wrapped at 76': (s) => wrapped(base64(`${s}\n`), 76),
  'base64, wrapped at 64 and indented': (s) => wrapped(base64(s), 64).replace(/\n/g, '\n      '),
  'base64 for URLs': (s) => Buffer.from(s).toString('base64url'),
  'base64 of user:token': (s) => base64(`x-token:${s}`),
  'base64 of user:token, wrapped': (s) => wrapped(base64(`me:${s}\n`), 76),
  ...Object.fromEntries([0, 1, 2].flatMap((before) => [0, 1, 2].map((after) => [`base64 between ${before} and ${after} bytes`, (s: string) => base64('x'.repeat(before) + s + 'y'.repeat(after))]))),
  'base64 in JSON in base64': (s) => base64(JSON.stringify({ a: s })),
  hex,
  'hex, upper case': (s) => hex(s).toUpperCase(),
  'hex, wrapped at 60': (s) => wrapped(hex(s), 60),
  'hex by bytes': (s) => hex(s).replace(/../g, '$& ').trim(),
  'hex with colons': (s) => hex(s).replace(/..(?=.)/g, '$&:'),
  JSON: (s) => JSON.stringify(s),
  'JSON in ASCII': ascii,
  'JSON in JSON': (s) => JSON.stringify(JSON.stringify(s)),
  'JSON of a document': (s) => JSON.stringify({ k: [s] }, null, 2),
  'printed object': (s) => inspect({ k: s }),
  'printed list': (s) => inspect([s], { breakLength: 80 }),
  'URL part': (s) => encodeURIComponent(s),
  'URL part, lower case': (s) => encodeURIComponent(s).replace(/%[0-9A-F]{2}/g, (unit) => unit.toLowerCase()),
  'form field': (s) => new URLSearchParams({ k: s }).toString(),
  'password in a URL': (s) => Object.assign(new URL('https://h/'), { username: 'u', password: s }).href,
  XML: (s) => xml(s).replace(/"/g, '&quot;').replace(/'/g, '&apos;'),
  HTML: (s) => xml(s).replace(/"/g, '&#34;').replace(/'/g, '&#39;'),
  'wrapped base64 in JSON': (s) => JSON.stringify(wrapped(base64(`${s}\n`), 60)),
  'wrapped base64 in JSON in JSON': (s) => JSON.stringify(JSON.stringify(wrapped(base64(s), 60))),
  'wrapped base64 with CRLF in JSON': (s) => JSON.stringify(wrapped(base64(s), 60).replace(/\n/g, '\r\n')),
  'indented lines in JSON': (s) => JSON.stringify(s.split('\n').map((line) => `    ${line}`).join('\n')),
  'wrapped hex in JSON': (s) => JSON.stringify(wrapped(hex(s), 60)),
  'behind a written line end': (s) => `\\n${s}\\n`,
  'base64 in base64': (s) => base64(base64(s)),
  'base64 of user:token in base64': (s) => base64(`"${base64(`u:${s}`)}"`),
  'base64 of UTF-16': (s) => Buffer.from(s, 'utf16le').toString('base64'),
  'base64 in a URL': (s) => encodeURIComponent(base64(s)),
  'base64 in JSON of PHP': (s) => base64(s).replace(/\//g, '\\/'),
  'base64 in JSON of .NET': (s) => base64(s).replace(/\+/g, '\\u002B'),
  'JSON of PHP': (s) => ascii(s).replace(/\//g, '\\/'),
  'JSON of .NET': (s) => JSON.stringify(s).replace(/\\"/g, '\\u0022').replace(/[<>&'+`\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`),
  'JSON of Gson': (s) => JSON.stringify(s).replace(/[<>&=']/g, (unit) => `\\u00${unit.charCodeAt(0).toString(16)}`),
  'URL in a URL': (s) => encodeURIComponent(encodeURIComponent(s)),
  'quoted-printable': (s) => Array.from(Buffer.from(s), (byte) => (byte === 0x3d || byte > 0x7e ? `=${byte.toString(16).toUpperCase()}` : String.fromCharCode(byte))).join(''),
  'cell of a table': (s) => `"${s.replace(/"/g, '""')}"`,
  'PowerShell string': (s) => `"${s.replace(/["$`]/g, '`$&')}"`,
  'pattern of Perl': (s) => s.replace(/[^A-Za-z0-9_\u0080-\uffff]/g, '\\$&'),
  'template of Handlebars': (s) => xml(s).replace(/"/g, '&quot;').replace(/['`=]/g, (unit) => `&#x${unit.charCodeAt(0).toString(16).toUpperCase()};`),
  'template of Go': (s) => xml(s).replace(/["'+]/g, (unit) => `&#${unit.charCodeAt(0)};`),
  "in a shell's quotes": (s) => `'${s.replace(/'/g, `'\\''`)}'`,
  'in double quotes': (s) => `"${s.replace(/["\\$`]/g, '\\$&')}"`,
}

/** As the tools themselves print a value; those that this machine has. */
const tools: Readonly<Record<string, readonly string[]>> = {
  'bash, printf %q': ['bash', '-c', 'printf %q "$S"'],
  'bash, set -x': ['bash', '-c', 'exec 2>&1; set -x; : "$S"'],
  'dash, set -x': ['dash', '-c', 'exec 2>&1; set -x; : "$S"'],
  'python, repr': ['python3', '-c', 'import os; print(repr(os.environ["S"]))'],
  'xxd -p': ['sh', '-c', 'printf %s "$S" | xxd -p'],
  'od -tx1': ['sh', '-c', 'printf %s "$S" | od -An -tx1'],
  'python, repr of bytes': ['python3', '-c', 'import os; print(repr(os.environb[b"S"]))'],
  'python, a pattern': ['python3', '-c', 'import os, re; print(re.escape(os.environ["S"]))'],
  'python, JSON of what a command said': ['python3', '-c', 'import os, json, base64; print(json.dumps({"out": base64.encodebytes(os.environb[b"S"]).decode()}))'],
  xxd: ['sh', '-c', 'printf %s "$S" | xxd'],
  'xxd of a line': ['sh', '-c', 'printf "%s\\n" "$S" | xxd'],
  'hexdump -C': ['sh', '-c', 'printf %s "$S" | hexdump -C'],
  'od -tx1 with offsets': ['sh', '-c', 'printf %s "$S" | od -tx1'],
  'base64': ['sh', '-c', 'printf %s "$S" | base64'],
}

/** The longest row of characters of it that is shown, blanks and control sequences aside. */
function longestShown(shown: string): number {
  const seen = shown.replace(/\x1b\[[0-9;]*m/g, '*').replace(/\n\s*\|/g, '').replace(/\s/g, '')
  return Math.max(...seen.split('*').map((row) => row.length))
}

function patternsOf(value: string): SecretPatterns {
  const patterns = new SecretPatterns()
  patterns.add(value)
  return patterns
}

function shownOf(patterns: SecretPatterns, output: string, cuts: readonly number[]): string {
  const redactor = new StreamRedactor(patterns)
  const bytes = Buffer.from(output)
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((one, other) => one - other), bytes.length]
  const pieces = ends.map((end, index) => redactor.push(bytes.subarray(index === 0 ? 0 : ends[index - 1], end)))
  const whole = Buffer.concat([...pieces, redactor.flush()])
  expect(whole.length).toBe(bytes.length)
  return whole.toString('latin1')
}

/** What of a value may be seen. */
const readable = 12

it('the short way for what tokens are written with finds the same escapes as the long one', () => {
  const token = fc.string({ unit: fc.constantFrom(...letters, '.', '-', '_'), minLength: 1, maxLength: 60 })
  for (const value of fc.sample(token, { numRuns: 200, seed: 3 })) expect(new Set(escapedForms(value)), value).toEqual(new Set(everyEscapedForm(value)))
})

describe('what tools print of a secret', () => {
  it('is masked in every form, for many secrets, however the stream is cut', () => {
    const missed: string[] = []
    let tried = 0
    const secrets = fc.sample(fc.tuple(secret, fc.array(fc.nat(2_000), { maxLength: 5 })), { numRuns: tries(300), seed: 14 })
    for (const [value, cuts] of secrets) {
      const patterns = patternsOf(value)
      for (const [name, form] of Object.entries(forms)) {
        tried++
        const output = form(value)
        const shown = shownOf(patterns, `${output}\n`, cuts)
        if (longestShown(shown) >= readable) missed.push(`${name}: ${JSON.stringify(value)} as ${JSON.stringify(shown)}`)
      }
    }
    expect(missed.slice(0, 5)).toEqual(missed.length <= tried / 1000 ? missed.slice(0, 5) : [])
    expect(missed.length / tried).toBeLessThanOrEqual(0.001)
  })

  it.each(Object.entries(tools))('is masked as %s prints it', (_name, [file = '', ...args]) => {
    for (const value of fc.sample(secret, { numRuns: tries(6), seed: 7 })) {
      const { stdout, error, status } = spawnSync(file, args, { env: { S: value, PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' }, encoding: 'utf8' })
      if (error !== undefined || status !== 0) return
      expect(longestShown(shownOf(patternsOf(value), stdout, [7, 23])), stdout).toBeLessThan(readable)
    }
  })

  it('leaves everything else as it is', () => {
    fc.assert(
      fc.property(secret, fc.array(fc.oneof(fc.string(), text(letters, 30), fc.constantFrom('\n', '\r\n', '\x1b[31m', '   ', '\x1b')), { maxLength: 30 }), fc.array(fc.nat(500), { maxLength: 6 }), (value, parts, cuts) => {
        const output = parts.join('')
        expect(shownOf(patternsOf(value), output, cuts)).toBe(Buffer.from(output).toString('latin1'))
      }),
      { numRuns: tries(300) },
    )
  })

  it('is masked where a message was cut within it', () => {
    const value = 'tok_0123456789abcdefghij'
    const patterns = patternsOf(value)
    for (const form of [value, base64(`t:${value}`), hex(value)]) {
      for (let length = 16; length < form.length; length++) {
        for (const message of [form.slice(0, length), `the host said: ${form.slice(0, length)}…`, `(${form.slice(0, length)}…); try again`]) expect(longestShown(patterns.mask(message).replace('the host said: ', '')), message).toBeLessThan(readable + 2)
      }
    }
    expect(patterns.mask('an end such as tok_01234')).toBe('an end such as tok_01234')
  })

  it('is masked in an error’s message too', () => {
    const patterns = patternsOf('tok_0123456789abcdef')
    const echo = `remote: Authorization: Basic ${base64('t:tok_0123456789abcdef')} was refused`
    expect(patterns.mask(echo)).toMatch(/^remote: Authorization: Basic [\w*]{1,8}\*{20,}[\w*=]{1,8} was refused$/)
  })
})
