import { mkdir, writeFile } from 'node:fs/promises'
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import { out } from './report.js'

/** A point of a line; points of the same series are joined. */
export interface Point {
  readonly series: string
  readonly x: number
  readonly y: number
}

export interface Drawing {
  readonly title: string
  /** What the axes show, with the unit. */
  readonly x: string
  readonly y: string
  /** For sizes and numbers at once: each is some times the one before. */
  readonly xLogarithmic?: boolean
  readonly points: readonly Point[]
}

interface Drawn {
  readonly outerHTML: string
  setAttribute(name: string, value: string): void
}

/** Draws lines into bench/out/NAME.svg; the y axis begins at 0, so that what is flat looks flat. */
export async function plot(name: string, { title, x, y, xLogarithmic = false, points }: Drawing): Promise<void> {
  // Both speak of a browser's types, which this program has no others of.
  const { document } = parseHTML('<html></html>') as unknown as { readonly document: never }
  const element = Plot.plot({
    document,
    width: 720,
    height: 400,
    marginTop: 40,
    marginRight: 170,
    marginLeft: 60,
    style: { background: 'white' },
    x: { label: x, type: xLogarithmic ? 'log' : 'linear', ticks: [...new Set(points.map((point) => point.x))], tickFormat: (value: number) => value.toLocaleString('en') },
    y: { label: y, domain: [0, Math.max(...points.map((point) => point.y))], nice: true, grid: true },
    color: { domain: [...new Set(points.map(({ series }) => series))] },
    marks: [
      Plot.text([title], { frameAnchor: 'top-left', dy: -34, fontWeight: 'bold', fontSize: 13 }),
      Plot.lineY(points, { x: 'x', y: 'y', z: 'series', stroke: 'series' }),
      Plot.dot(points, { x: 'x', y: 'y', fill: 'series' }),
      Plot.text(points, Plot.selectLast({ x: 'x', y: 'y', z: 'series', text: 'series', fill: 'series', textAnchor: 'start', dx: 8 })),
    ],
  }) as unknown as Drawn
  // In a page that is implied; a file must say it.
  element.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  await mkdir(out, { recursive: true })
  await writeFile(new URL(`${name}.svg`, out), `${element.outerHTML}\n`)
}
