import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRedis, type EmbeddedRedis } from '../../src/embedded/index.js'
import { AgentQueue } from '../../src/producers/index.js'
import { createRedis, Keys, Roster, SlotLedger } from '../../src/store/index.js'
import { makePlace, type Place } from './run-switchyard.js'

/** The commands of operators: what they say, and how they exit. What they do is tested below them. */
let redis: EmbeddedRedis
let place: Place
let queue: AgentQueue
beforeAll(async () => {
  redis = await startRedis()
  place = await makePlace()
  queue = new AgentQueue({ redis: { url: redis.url } })
  const client = createRedis({ url: redis.url }, 'commands')
  const keys = new Keys()
  await new SlotLedger(client, keys).reserve({ leaseId: 'x', holder: 'c', candidates: [{ provider: 'e2b', sandboxes: 5 }], demand: { cpu: 0, memoryMiB: 0 }, ttlMs: 600_000 })
  const roster = new Roster(client, keys)
  for (const [consumer, about] of [['consumer-new', { heeds: ['drain', 'limit', 'pause', 'share', 'leave'], host: 'h', pid: 7, running: 1, places: 2 }], ['consumer-old', {}]] as const) {
    await roster.announce({ consumer, profileId: consumer, profile: { queue: 'agents', release: '1.0.0', providers: ['e2b'], secrets: [] }, troubles: [], startedAtMs: Date.now(), shares: null, ...about }, 600_000)
  }
  client.disconnect()
  await queue.enqueue({ repository: 'acme/web', steps: ['true'], tenant: 'acme' })
})
afterAll(async () => {
  await queue.close()
  await place.remove()
  await redis.close()
})

async function run(args: readonly string[]): Promise<{ code: number; out: string; said: string }> {
  const { code, stdout, stderr } = await place.command(args, { SWITCHYARD_REDIS_URL: redis.url, SWITCHYARD_OPERATOR: 'anna' })
  return { code, out: stdout, said: stderr }
}

/** In this order: each finds what the one before it left. */
const commands: readonly (readonly [string, number, string | RegExp])[] = [
  ['providers drain e2b --reason maintenance --for 2h', 0, /^e2b is drained by anna: maintenance \(until .*Z\): no new sandboxes there; what runs there goes on\nnot heeded by 1 consumer of an earlier release, which goes on as before until replaced: consumer-old\n$/],
  ['providers drain e2b --json', 0, /^\{"provider":"e2b","changed":true,"before":\{"by":"anna","reason":"maintenance",.*"after":\{"by":"anna","reason":null,.*"untilMs":null,"move":false\},"ignoredBy":\["consumer-old"\]\}\n$/],
  ['providers resume e2b', 0, /^e2b takes sandboxes again; it was drained by anna\n/],
  ['providers limit e2b 2', 0, /^e2b: the limit is 2 of the configured 5, by anna\n/],
  ['providers list', 0, /\ne2b +2 \(5\) +2 .*\ne2b: limited to 2 of the configured 5 by anna\n$/],
  ['tenants pause acme --by bob', 0, /^tenant acme is paused by bob; what runs goes on\n/],
  ['tenants share acme 3 --cap 2', 0, /^tenant acme: weight 3, at most 2 jobs at once, by anna\n/],
  ['queue pause --for 2h --reason deploy', 0, /^queue agents is paused by anna: deploy \(until 20.*Z\); what runs goes on\n/],
  ['queue pause --reason deploy', 0, /^queue agents is paused by anna: deploy; what runs goes on\n/],
  ['budgets', 0, /^no budget is set or configured; jobs may have their own\n$/],
  ['budgets set tenant acme 20/day', 0, /^tenant acme may cost 20\.00 USD a day\n$/],
  ['budgets set tenant acme 20/day', 0, /^tenant acme had that budget already; nothing was changed\n$/],
  ['budgets set tenant acme 30.5/day --json', 0, /^\{"tenant":"acme","changed":true,"before":20000000\}\n$/],
  ['budgets', 0, /\ntenant +acme +30\.50 USD\/day +0\.00 USD +0\.00 USD +anna\n$/],
  ['budgets remove tenant acme', 0, /^tenant acme has the budget again that is configured; before it was 30\.50 USD a day\n$/],
  ['budgets remove tenant acme', 0, /^tenant acme had no budget that was set; nothing was changed\n$/],
  ['consumers', 0, /consumer-new +agents +h\/7 +1\.0\.0 +1\/2 +e2b +ok .* live\nconsumer-old +agents +- +1\.0\.0 +- +e2b +ok/],
  ['jobs list --where tenant=acme --json', 0, /^\{"jobs":\[\{"jobId":.*\],"cursor":null\}\n$/],
  ['jobs list --where tenant=akme --where repository=acme/web --json', 0, /^\{"jobs":\[\],"cursor":null\}\n$/],
  ['queue drain --yes --reason wrong', 0, /^1 job ended as cancelled\n {2}\S+\n$/],
  ['audit', 0, /anna \(operator\) +limitProvider +e2b +200 +null -> \{.*"limit":2.*\}\n/],
]

it('say what they changed, that nothing was, who heeds it not, and what is', { timeout: 300_000 }, async () => {
  for (const [line, code, out] of commands) {
    const found = await run(line.split(' '))
    expect({ line, ...found }).toMatchObject({ line, code, out: expect.stringMatching(out) as unknown })
  }
})

it('is said and exited with by a process of its own as well', async () => {
  const environment = { SWITCHYARD_REDIS_URL: redis.url, SWITCHYARD_OPERATOR: 'anna' }
  const [right, wrong, full] = [place.run(['budgets'], environment), place.run(['queue', 'drain'], environment), place.shell('$SWITCHYARD --help >/dev/full')]
  expect([await full.ended, full.stderr()]).toEqual([70, expect.stringMatching(/^switchyard: stdout: what was asked for can't be written \(.*ENOSPC.*\); make room there, or write it elsewhere\n$/)])
  expect([await right.ended, right.stdout(), right.stderr()]).toEqual([0, 'no budget is set or configured; jobs may have their own\n', ''])
  expect([await wrong.ended, wrong.stdout(), wrong.stderr()]).toEqual([2, '', expect.stringContaining('was not confirmed; give --yes')])
})

describe('commands that are wrong', () => {
  const wrong: readonly (readonly [string[], number, string | RegExp])[] = [
    [['providers', 'drain', 'e2bb'], 4, /provider "e2bb" is not known \(did you mean "e2b"\?\)/],
    [['providers', 'limit', 'e2b'], 2, /give a number of sandboxes, or --reset/],
    [['budgets', 'set', 'tenant', 'acme', '0/day'], 2, /must be more than 0; remove the budget to lift it, or pause the tenant/],
    [['budgets', 'set', 'tenant', 'acme', '--', '-5/day'], 2, /must be more than 0; remove the budget/],
    [['budgets', 'set', 'tenant', 'acme', '-5/day'], 2, /must be more than 0; remove the budget/],
    [['budgets', 'set', 'tenant', 'acme', '5/day', '--frobnicate'], 2, /unknown option '--frobnicate'/],
    [['budgets', 'set', 'tenant', 'acme', '5/day', 'more'], 2, /too many arguments for 'set'\. Expected 3 arguments but got 4/],
    [['budgets', 'set', 'tenant', 'acme', 'much/day'], 2, /"much\/day" is no amount; give one such as "20\/day", in the deployment’s currency/],
    [['budgets', 'set', 'tenant', 'acme', '20'], 2, /"20" does not say for how long; a tenant has a budget for each day: give one such as "20\/day"/],
    [['budgets', 'set', 'job', 'x', '20/day'], 2, /is an amount a day; a job has one for all of its time: give one such as "2\.50"/],
    [['budgets', 'set', 'job', '00000000-0000-4000-8000-000000000000', '20'], 4, /00000000-0000-4000-8000-000000000000/],
    [['budgets', 'set', 'team', 'acme', '20/day'], 2, /"team" has no budget; give "tenant" or "job"/],
    [['queue', 'pause', '--for', 'soon'], 2, /--for: "soon" is not a duration; write a number and a unit, such as "2h"/],
    [['tenants', 'pause', 'akme'], 4, /tenant "akme" is not known \(did you mean "acme"\?\)/],
    [['queue', 'drain'], 2, /would end 0 waiting jobs of the queue agents, and was not confirmed; give --yes/],
    [['jobs', 'retry', '--where', 'stat=failed since=soon'], 2, /"stat" is not known \(did you mean "state"\?\).*\n.*since: "soon" must be a duration/],
    [['jobs', 'cancel', '--where', 'state=running', '--where', 'state=waiting'], 2, /where: state is given twice; give it once/],
  ]
  it('say the mend, and exit with what is wrong', { timeout: 300_000 }, async () => {
    for (const [args, code, said] of wrong) expect({ args, ...(await run(args)) }).toMatchObject({ args, code, out: '', said: expect.stringMatching(said) as unknown })
  })
})
