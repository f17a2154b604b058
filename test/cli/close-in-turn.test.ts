import { expect, it } from 'vitest'
import { closeInTurn } from '../../src/cli/close-in-turn.js'

it('closes last first and goes on after a failure', async () => {
  const closed: number[] = []
  const closer = (number: number, fails = false) => async () => {
    closed.push(number)
    if (fails) throw new Error(`no ${number}`)
  }
  await expect(closeInTurn([closer(1), closer(2, true), closer(3)])).rejects.toThrow('no 2')
  expect(closed).toEqual([3, 2, 1])
  await expect(closeInTurn([closer(4, true), closer(5, true)])).rejects.toThrow(/could not clean up: Error: no 5; Error: no 4/)
})
