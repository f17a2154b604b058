import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { has } from '../runner/process-sandbox.js'
import { travel, type Phase } from './journey.js'
import { inEveryRun, kinds } from './kinds/index.js'
import { modes, World } from './world.js'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

// A part of what `npm run fidelity` tries: each kind with one way of transfer, not lost and lost in one phase.
const turns: readonly Phase[] = ['between', 'setup', 'step', 'push']
for (const [about, table] of Object.entries(kinds)) {
  const tried = table.filter(({ name }) => inEveryRun.test(name))
  if (tried.length === 0) continue
  describe.concurrent(about, () => {
    for (const [index, kind] of tried.entries()) {
      const mode = kind.only ?? modes[index % 2]!
      const phase = kind.phase ?? turns[index % 4]!
      const absent = kind.needs !== undefined && !has(kind.needs)
      it.skipIf(absent)(`${kind.name} (${mode}, ${phase})`, { timeout: 180_000 }, async () => {
        const problems = await travel(world, kind, mode, ['none', phase])
        expect(problems.join('\n')).toBe('')
      })
    }
  })
}
