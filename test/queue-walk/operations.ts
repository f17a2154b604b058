import type { Random } from '../chaos/random.js'
import { boardOperations } from './board-operations.js'
import { bullmqOperations } from './bullmq-operations.js'
import type { Operation } from './operation.js'
import { operatorOperations } from './operator-operations.js'
import { phaseOperations } from './phase-operations.js'
import { producerOperations } from './producer-operations.js'
import { redisOperations } from './redis-operations.js'
import type { WalkSettings } from './settings.js'

const disturbMembers: Operation = {
  name: 'disturb a consumer',
  weight: 8,
  does: ({ world, random }) => world.members.disturb(random, world.settings.freeze),
}

/** Where jobs are caught in a certain phase, everything else is rarer, so that they come so far. */
const asideOfPhases = 0.06

const all: readonly Operation[] = [...producerOperations, ...bullmqOperations, ...boardOperations, ...operatorOperations, ...redisOperations, ...phaseOperations, disturbMembers]

export function chooseOperation(random: Random, settings: WalkSettings): Operation {
  const possible = all.filter((operation) => operation.needs === undefined || settings[operation.needs])
  const name = random.weighted(Object.fromEntries(possible.map((each) => [each.name, settings.phases && each.needs !== 'phases' ? each.weight * asideOfPhases : each.weight])))
  return possible.find((each) => each.name === name)!
}
