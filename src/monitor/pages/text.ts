import { type Cost, describeMicros } from '../../job/cost.js'
import { harmlessLine, harmlessText } from '../../job/harmless-text.js'

/** How texts, times and numbers stand on a page. Pure functions; what jobs have named is made harmless here and bounded. */

const longestName = 120

/** Text within a line, at most so many characters; the middle of a longer one goes. */
export function line(text: string, longest = longestName): string {
  const whole = harmlessLine(text)
  const characters = Array.from(whole)
  if (characters.length <= longest) return whole
  const half = Math.floor((longest - 1) / 2)
  return `${characters.slice(0, half).join('')}…${characters.slice(-half).join('')}`
}

/** The end of a text of several lines. */
export function tail(text: string, lines: number, longest = 8_000): string {
  const shown = harmlessText(text).replace(/\n+$/, '').split('\n').slice(-lines).join('\n')
  return shown.length > longest ? `…${shown.slice(-longest)}` : shown
}

/** Such as `42 s`, `3 m 05 s`, `1 h 02 m`, `2 d 3 h`; the page's script says it the same way. */
export function lasted(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  const two = (number: number) => String(number).padStart(2, '0')
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s`
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ${two(Math.floor(seconds / 60) % 60)} m`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor(seconds / 3_600) % 24} h`
}

/** As `lasted`, to the tenth where it is short. */
export function took(ms: number): string {
  return ms < 10_000 ? `${(Math.max(0, ms) / 1000).toFixed(1)} s` : lasted(ms)
}

export function whole(number: number): string {
  return number.toLocaleString('en-US', { maximumFractionDigits: 2 })
}

/** Such as `0.50 USD`. */
export function money({ micros, currency }: Cost): string {
  return line(describeMicros(micros, currency), 40)
}

/** ISO 8601 in UTC to the second, and as people read it. */
export function instant(atMs: number): { readonly machine: string; readonly people: string } {
  const date = new Date(Math.min(Math.max(0, atMs), 8.64e15))
  const machine = `${date.toISOString().slice(0, 19)}Z`
  return { machine, people: machine.replace('T', ' ').replace('Z', ' UTC') }
}
