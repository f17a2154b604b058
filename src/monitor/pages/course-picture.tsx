/** @jsxRuntime automatic */
/** @jsxImportSource hono/jsx */
import type { Bar, Course } from './course.js'

/** The course as a picture: a lane for what the job waited for, one for its sandboxes, one for its steps, and marks across them. */

const laneTop: Readonly<Record<Bar['lane'], number>> = { waits: 18, sandboxes: 62, steps: 106 }
const laneNames: Readonly<Record<Bar['lane'], string>> = { waits: 'Waits', sandboxes: 'Sandboxes', steps: 'Steps and checkpoints' }
const barHeight = 22
const height = 158
/** About how wide the picture is on a large screen, and a letter of a label, in pixels. A bar that would cut its label off there goes without; its title says it. */
const [wide, letter] = [1_100, 6.3] as const

export function CoursePicture({ course: { bars, marks, ticks, summary } }: { readonly course: Course }) {
  const handed = marks.filter(({ kind }) => kind === 'taken')
  const saved = marks.filter(({ kind }) => kind === 'saved')
  return (
    <>
      <svg class="course" height={height} role="img" aria-label={`The job’s course. ${summary}`}>
        {ticks.map(({ at }) => <line x1={percent(at)} x2={percent(at)} y1="18" y2={height - 16} />)}
        {(Object.keys(laneTop) as Bar['lane'][]).map((lane) => <text class="lane" x="0" y={laneTop[lane] - 5}>{laneNames[lane]}</text>)}
        {bars.map((bar) => (
          // Its own viewport, so that a long label ends with the bar.
          <svg x={percent(bar.from)} y={laneTop[bar.lane]} width={percent(Math.min(bar.width, 100 - bar.from))} height={barHeight}>
            <title>{bar.label}</title>
            <rect class={bar.tone} width="100%" height={barHeight} rx="3" />
            {(bar.width / 100) * wide < bar.label.length * letter + 12 ? null : <text x="6" y="15">{bar.label}</text>}
          </svg>
        ))}
        {saved.map(({ at, label }) => <rect class="saved" x={percent(at)} y={laneTop.steps + barHeight + 2} width="3" height="8" rx="1"><title>{label}</title></rect>)}
        {handed.map(({ at, label }) => (
          <g>
            <title>{label}</title>
            <line class="taken" x1={percent(at)} x2={percent(at)} y1="18" y2={height - 16} />
            <svg x={percent(at)} y={laneTop.sandboxes - 16} width="12" height="12" overflow="visible"><path class="diamond" d="M0 0 5 5 0 10-5 5z" /></svg>
          </g>
        ))}
        {ticks.map(({ at, label }) => <text class="tick" x={percent(at)} y={height - 3} text-anchor={at > 94 ? 'end' : 'start'}>{label}</text>)}
      </svg>
      <ul class="legend">
        {saved.length === 0 ? null : <li><span class="good" aria-hidden="true">▮</span> checkpoint</li>}
        {handed.length === 0 ? null : <li><span class="now" aria-hidden="true">◆</span> handed over to another consumer</li>}
      </ul>
    </>
  )
}

function percent(share: number): string {
  return `${share}%`
}
