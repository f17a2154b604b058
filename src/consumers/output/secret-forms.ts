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

function escapedForms(text: string): string[] {
  const json = JSON.stringify(text).slice(1, -1)
  const ascii = json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  // As Go writes JSON for pages.
  const html = json.replace(/[<>&]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  const language = text.replace(/\\/g, '\\\\').replace(/\n/g, '\\n').replace(/\r/g, '\\r').replace(/\t/g, '\\t')
  const uri = wellFormed(() => encodeURIComponent(text))
  const strictUri = uri.replace(/[!'()*]/g, (unit) => `%${unit.charCodeAt(0).toString(16).toUpperCase()}`)
  const xml = text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
  return [
    text,
    json, ascii, html, JSON.stringify(json).slice(1, -1), JSON.stringify(ascii).slice(1, -1), json.replace(/\//g, '\\/'),
    language, language.replace(/'/g, "\\'"), language.replace(/"/g, '\\"'), language.replace(/`/g, '\\`'),
    // Shells: quotes that end and begin again, doubled quotes, backslashes; printf %q leaves some characters alone.
    text.replace(/'/g, `'\\''`), text.replace(/'/g, `'"'"'`), text.replace(/'/g, "''"), text.replace(/["\\$`]/g, '\\$&'), text.replace(/["\\$`!]/g, '\\$&'),
    text.replace(/[^A-Za-z0-9_@%+=:,./\-\n]/g, '\\$&'), text.replace(/[ '"\\|&;()<>!{}*[\]?^$`,]/g, '\\$&').replace(/^[#~]/, '\\$&'),
    uri, strictUri, lowerHex(uri), lowerHex(strictUri), wellFormed(() => encodeURI(text)), strictUri.replace(/%20/g, '+'), strictUri.replace(/%2F/g, '/'),
    new URLSearchParams([['', text]]).toString().slice(1), passwordInUrl(text),
    ...[['&quot;', '&apos;'], ['&#34;', '&#39;'], ['&quot;', '&#39;'], ['&quot;', '&#x27;'], ['&quot;', "'"]].map(([double = '', single = '']) => xml.replace(/"/g, double).replace(/'/g, single)),
    xml,
  ]
}

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
  for (let before = 0; before < 3; before++) {
    // Where it begins within a longer text decides the characters; those that its neighbours have a part in are left out.
    const shifted = Buffer.concat([Buffer.alloc(before), bytes])
    const full = shifted.toString('base64').replace(/=+$/, '')
    const core = full.slice([0, 2, 3][before], shifted.length % 3 === 0 ? undefined : -1)
    forms.push(core, core.replace(/\+/g, '-').replace(/\//g, '_'))
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
