import { pino } from 'pino'
import { Consumer, secretsFromEnvironment } from '../../src/consumers/index.js'
import { CodeStorageHost } from '../../src/git/index.js'
import { LocalProvider } from '../../src/providers/local/index.js'
import type { ConsumerProcessOptions } from './deployment.js'

// A consumer in a process of its own, for tests that kill it. It says "started" to its parent.
const told = JSON.parse(process.env['CONSUMER'] ?? '') as ConsumerProcessOptions
const consumer = new Consumer({
  deployment: 'test',
  redis: { url: told.redisUrl },
  git: new CodeStorageHost(told.git),
  providers: told.limits.map((sandboxes, index) => ({
    provider: new LocalProvider({ name: `local-${'abcdef'[index]}`, stateDir: told.stateDir }),
    limit: { sandboxes },
  })),
  secrets: secretsFromEnvironment([]),
  log: pino({ level: 'silent' }),
  settings: { leaseMs: 1_500, stallCheckMs: 500, stopGraceMs: 500 },
})
await consumer.start()
process.send?.('started')
