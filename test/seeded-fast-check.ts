import fc from 'fast-check'

/**
 * fast-check with the same inputs in each run: what others find would be a failure of a change that has nothing to do with it. The longer commands of a
 * property (SWITCHYARD_FUZZ_RUNS, SWITCHYARD_MODEL_STEPS) look at others each time, and print the seed that repeats a failure; SWITCHYARD_SEED takes it.
 */
const { SWITCHYARD_SEED: given, SWITCHYARD_FUZZ_RUNS: runs, SWITCHYARD_MODEL_STEPS: steps } = process.env
if (given !== undefined || (runs === undefined && steps === undefined)) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(given ?? 14) })

export { default } from 'fast-check'
