import { readFileSync } from 'node:fs'

// Read once, so that all of one process fit together when the package is replaced under it.
const read = (name: string) => readFileSync(new URL(name, import.meta.url), 'utf8')

export const scripts = {
  holder: read('./holder.sh'),
  init: read('./init.sh'),
  enter: read('./enter.sh'),
  stage: read('./stage.sh'),
  killMarked: read('./kill-marked.sh'),
}
