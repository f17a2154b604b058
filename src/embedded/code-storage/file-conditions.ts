/** What HTTP's conditions and ranges (RFC 9110) mean for a file whose validators are `etag` and `lastModified`. */

type Asked = (header: string) => string | undefined

/** 304 or 412 where a condition says so; null when the file is to be given. */
export function preconditionStatus(asked: Asked, etag: string, lastModified: string): 304 | 412 | null {
  const ifMatch = asked('if-match')
  if (ifMatch !== undefined) {
    if (!lists(ifMatch, etag)) return 412
  } else if (isAfter(lastModified, asked('if-unmodified-since'))) return 412
  const ifNoneMatch = asked('if-none-match')
  if (ifNoneMatch !== undefined) return lists(ifNoneMatch, etag) ? 304 : null
  const since = asked('if-modified-since')
  return since !== undefined && !Number.isNaN(Date.parse(since)) && !isAfter(lastModified, since) ? 304 : null
}

/** The one range of bytes that is asked for; null for the whole file: without one, with several, or when it is another file by now. */
export function byteRange(asked: Asked, etag: string, lastModified: string, size: number): { start: number; length: number } | 'unsatisfiable' | null {
  const condition = asked('if-range')
  if (condition !== undefined && condition !== etag && condition !== lastModified) return null
  const [all, from = '', to = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(asked('range') ?? '') ?? []
  if (all === undefined || (from === '' && to === '')) return null
  const start = from === '' ? Math.max(0, size - Number(to)) : Number(from)
  const end = from === '' || to === '' ? size - 1 : Math.min(size - 1, Number(to))
  if (from !== '' && to !== '' && Number(to) < Number(from)) return null
  return start >= size || end < start ? 'unsatisfiable' : { start, length: end - start + 1 }
}

function lists(header: string, etag: string): boolean {
  return header.split(',').some((tag) => ['*', etag, `W/${etag}`].includes(tag.trim()))
}

function isAfter(date: string, other: string | undefined): boolean {
  const limit = Date.parse(other ?? '')
  return !Number.isNaN(limit) && Date.parse(date) > limit
}
