/** What a walk is told by its environment. */
export interface WalkSettings {
  readonly seconds: number
  /** Sandboxes have a price, and tenants and jobs have budgets that run out and are raised. */
  readonly budgets: boolean
  /** Redis loses everything in the middle. */
  readonly flush: boolean
  /** Consumers are frozen instead of killed: they come back and believe that they still have their jobs. */
  readonly freeze: boolean
  /** Providers refuse, hang, lose answers, and can't be reached for a while. */
  readonly trouble: boolean
  /** Redis freezes, refuses writes, goes back by up to five seconds, which is longer than a lease, and is two for a while. */
  readonly restart: boolean
  /** Calls of consumers take a moment, sandboxes end, and things are done to jobs while a certain call of theirs stands still. */
  readonly phases: boolean
}

export interface Rounds extends WalkSettings {
  readonly seed: number
  readonly rounds: number
  /** Where what happened is written. */
  readonly traceDir: string | undefined
}

/** @throws Error that names the variable and says what it may be. */
export function readSettings(environment: NodeJS.ProcessEnv): Rounds {
  const number = (name: string, otherwise: number): number => {
    const given = environment[name]
    if (given === undefined) return otherwise
    if (!/^\d+$/.test(given)) throw new Error(`${name}: "${given}" is not a whole number; give one such as ${name}=${otherwise}`)
    return Number(given)
  }
  const flag = (name: string): boolean => {
    const given = environment[name]
    if (given !== undefined && given !== '0' && given !== '1') throw new Error(`${name}: "${given}" must be 1 or 0`)
    return given === '1'
  }
  return {
    seed: number('SEED', Math.floor(Math.random() * 1_000_000)),
    rounds: number('ROUNDS', 1),
    seconds: number('SECONDS', 8),
    budgets: flag('BUDGETS'),
    flush: flag('FLUSH'),
    freeze: flag('FREEZE'),
    trouble: flag('TROUBLE'),
    restart: flag('RESTART'),
    phases: flag('PHASES'),
    traceDir: environment['TRACE'],
  }
}
