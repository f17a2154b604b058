import { base64Cores } from '../../job/struck-out.js'

/**
 * The forms in which tools print a secret: as it is, quoted and escaped by shells, JSON, URLs, XML and languages, in base64 and hex, and each
 * of these of its parts that come alone: a line, a trimmed value, a leaf of a JSON document.
 */

/** Forms shorter than this would be found where the secret is not. */
export const minFormLength = 8

/** As many lines of a value, and leaves of one, are looked at each by itself. */
const mostParts = 400

/** @returns every form, without those that are shorter than `minFormLength`. */
export function secretForms(value: string): Set<string> {
  const forms = new Set<string>()
  const add = (form: string) => {
    if (form.length >= minFormLength) forms.add(form)
  }
  for (const part of partsOf(value)) {
    if (part.length < minFormLength) continue
    for (const text of escapedForms(part)) add(text)
    // What a request's body or a token's payload holds of it.
    const inJson = JSON.stringify(part).slice(1, -1)
    for (const text of new Set([part, inJson])) for (const encoded of encodedForms(Buffer.from(text))) add(encoded)
    for (const core of base64Cores(Buffer.from(part, 'utf16le'))) add(core)
  }
  for (const text of new Set([value, value.trim()])) {
    const bytes = Buffer.from(text)
    for (const line of dumpedLines(bytes)) add(line)
    // A line end behind it changes the last line alone.
    const last = bytes.subarray(bytes.length - (bytes.length % 16))
    if (bytes.length < 16 * mostParts) for (const line of dumpedLines(Buffer.concat([last, Buffer.from('\n')]))) add(line)
    // As a cluster shows what logs in to its registry.
    for (const inner of base64Cores(Buffer.from(text))) for (const core of base64Cores(Buffer.from(inner))) add(core)
  }
  return forms
}

function partsOf(value: string): Set<string> {
  const trimmed = value.trim()
  const parts = new Set([value, trimmed, value.replace(/\n+$/, ''), trimmed.replace(/\s+/g, ' ')])
  for (const quote of ['"', "'"]) if (trimmed.length > 2 && trimmed.startsWith(quote) && trimmed.endsWith(quote)) parts.add(trimmed.slice(1, -1))
  const addLines = (text: string) => {
    const lines = text.split(/\r\n|\r|\n/)
    if (lines.length > 1) for (const line of lines.slice(0, mostParts)) parts.add(line).add(line.trim())
  }
  addLines(value)
  for (const leaf of jsonLeaves(trimmed)) {
    parts.add(leaf).add(leaf.trim())
    addLines(leaf)
  }
  return parts
}

/** The texts in a JSON object or list; none of anything else. */
function jsonLeaves(text: string): string[] {
  if (!/^[[{]/.test(text)) return []
  let waiting: unknown[]
  try {
    waiting = [JSON.parse(text)]
  } catch {
    return []
  }
  const leaves: string[] = []
  for (let next = waiting.pop(); next !== undefined && leaves.length < mostParts; next = waiting.pop()) {
    if (typeof next === 'string') leaves.push(next)
    else if (typeof next === 'object' && next !== null) waiting.push(...(Object.values(next) as unknown[]).filter((each) => each !== null && each !== undefined))
  }
  return leaves
}

/** Letters, digits and what else a token is written with: of these only patterns escape any. Tokens are minted by the minute, and each is looked for in its forms. */
const plain = /^[A-Za-z0-9_.-]*$/

/** What shells, languages, URLs and markup make of a text. */
export function escapedForms(text: string): string[] {
  return plain.test(text) ? [text, text.replace(/[.-]/g, '\\$&'), text.replace(/\./g, '\\.')] : everyEscapedForm(text)
}

/** The same, of whatever text. */
export function everyEscapedForm(text: string): string[] {
  const json = JSON.stringify(text).slice(1, -1)
  const ascii = json.replace(/[\u007f-\uffff]/g, unicode)
  const language = text.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/\r/g, '\\r').replace(/\t/g, '\\t')
  const uri = wellFormed(() => encodeURIComponent(text))
  const strictUri = uri.replace(/[!'()*]/g, (unit) => `%${unit.charCodeAt(0).toString(16).toUpperCase()}`)
  const xml = text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
  return [
    text,
    json, ascii, JSON.stringify(json).slice(1, -1), JSON.stringify(ascii).slice(1, -1), json.replace(/\//g, '\\/'), ascii.replace(/\//g, '\\/'),
    // As Go and Ruby write JSON for pages, Java's Gson, and .NET.
    json.replace(/[<>&\u2028\u2029]/g, unicode), json.replace(/[<>&=']/g, unicode),
    language.replace(/["<>&'+`]|[\u007f-\uffff]/g, (unit) => unicode(unit).toUpperCase().replace('U', 'u')),
    language, language.replace(/'/g, "\\'"), language.replace(/"/g, '\\"'), language.replace(/`/g, '\\`'),
    byBytes(language.replace(/'/g, "\\'"), (byte) => `\\x${byte.toString(16)}`), byBytes(language.replace(/"/g, '\\"'), (byte) => `\\${byte.toString(8)}`), byBytes(language.replace(/'/g, "\\'"), (byte) => `\\${byte.toString(8)}`),
    // Shells: quotes that end and begin again, doubled quotes, backslashes; printf %q leaves some characters alone. Tables double quotes too.
    text.replace(/'/g, `'\\''`), text.replace(/'/g, `'"'"'`), text.replace(/'/g, "''"), text.replace(/"/g, '""'), text.replace(/["\\$`]/g, '\\$&'), text.replace(/["\\$`!]/g, '\\$&'), text.replace(/["$`]/g, '`$&'),
    text.replace(/[^A-Za-z0-9_@%+=:,./\-\n]/g, '\\$&'), text.replace(/[ '"\\|&;()<>!{}*[\]?^$`,]/g, '\\$&').replace(/^[#~]/, '\\$&'),
    // As patterns: Perl's, Python's, JavaScript's.
    text.replace(/[^A-Za-z0-9_\u0080-\uffff]/g, '\\$&'), text.replace(/[()[\]{}?*+\-|^$\\.&~# \t\n\r\v\f]/g, '\\$&'), text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'),
    uri, strictUri, lowerHex(uri), lowerHex(strictUri), wellFormed(() => encodeURI(text)), strictUri.replace(/%20/g, '+'), strictUri.replace(/%2F/g, '/'), uri.replace(/%/g, '%25'), strictUri.replace(/%/g, '%25'),
    new URLSearchParams([['', text]]).toString().slice(1), passwordInUrl(text), byBytes(text.replace(/=/g, '=3D'), (byte) => `=${byte.toString(16).toUpperCase()}`),
    ...[['&quot;', '&apos;'], ['&#34;', '&#39;'], ['&quot;', '&#39;'], ['&quot;', '&#x27;'], ['&quot;', "'"]].map(([double = '', single = '']) => xml.replace(/"/g, double).replace(/'/g, single)),
    xml,
    // Templates: Go's, Handlebars', Mustache's.
    xml.replace(/["'+]/g, (unit) => `&#${unit.charCodeAt(0)};`), entities(xml, /['`=]/g), entities(xml, /[/`=]/g).replace(/'/g, '&#39;'),
  ]
}

const unicode = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`

const entities = (xml: string, units: RegExp) => xml.replace(units, (unit) => `&#x${unit.charCodeAt(0).toString(16).toUpperCase()};`).replace(/"/g, '&quot;')

/** Text whose characters beyond ASCII are written byte by byte. */
const byBytes = (text: string, written: (byte: number) => string) => text.replace(/[\u0080-\uffff]+/g, (units) => Array.from(Buffer.from(units), written).join(''))

const lowerHex = (uri: string) => uri.replace(/%[0-9A-F]{2}/g, (unit) => unit.toLowerCase())

/** A value with half of a surrogate pair has no form as a URL. */
function wellFormed(encode: () => string): string {
  try {
    return encode()
  } catch {
    return ''
  }
}

function passwordInUrl(text: string): string {
  const url = new URL('https://host.invalid/')
  url.password = text
  return url.password
}

function encodedForms(bytes: Buffer): string[] {
  const forms: string[] = []
  for (const core of base64Cores(bytes)) {
    const inUrl = encodeURIComponent(core)
    forms.push(core, core.replace(/\+/g, '-').replace(/\//g, '_'), core.replace(/\//g, '\\/'), core.replace(/\+/g, '\\u002B'), inUrl, lowerHex(inUrl))
  }
  const hex = bytes.toString('hex')
  for (const digits of [hex, hex.toUpperCase()]) {
    const pairs = digits.match(/../g) ?? []
    const words = digits.match(/.{1,4}/g) ?? []
    // As od has it: sixteen in a line, the line ends folded.
    const dumped = pairs.map((pair, index) => (index % 16 === 0 ? pair : ` ${pair}`)).join('')
    forms.push(digits, dumped, pairs.join(' '), pairs.join(':'), words.join(' '), pairs.map((pair) => `\\x${pair}`).join(''))
  }
  return forms
}

/** The lines of a dump that begins with it: each has an offset before it, so they do not fold into one. Od's; xxd's and hexdump's with their characters. */
function dumpedLines(bytes: Buffer): string[] {
  const lines: string[] = []
  for (let from = 0; from < Math.min(bytes.length, 16 * mostParts); from += 16) {
    const piece = bytes.subarray(from, from + 16)
    const pairs = piece.toString('hex').match(/../g) ?? []
    const words = piece.toString('hex').match(/.{1,4}/g) ?? []
    const halves = [pairs.slice(0, 8), pairs.slice(8)].map((half) => half.join(' ')).join('  ')
    const characters = piece.toString('latin1').replace(/[^\x20-\x7e]/g, '.')
    lines.push(pairs.join(' '), `${words.join(' ').padEnd(39)}  ${characters}`.trimEnd(), `${halves.padEnd(48)}  |${characters}|`)
  }
  return lines
}
