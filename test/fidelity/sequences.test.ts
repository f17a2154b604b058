import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { trySequences } from './sequences.js'
import { World } from './world.js'

// 40 of them; a thousand by command, see CONTRIBUTING.md.
let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

describe.concurrent('after random work, what comes back is what was saved', () => {
  it.each([1, 2, 3, 4])('ten sequences of seed %i', { timeout: 300_000 }, async (seed) => {
    expect(await trySequences(world, { sequences: 10, seed, shrinkMs: 0 })).toBeUndefined()
  })
})
