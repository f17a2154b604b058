import { pino, type DestinationStream, type Logger } from 'pino'
import type { Config } from '../config/schema.js'
import { harmlessJson } from '../job/harmless-text.js'
import { traceFields } from '../telemetry/tracing.js'

/**
 * The program's own log: JSON lines on stderr, so that stdout is the command's output alone. Fields that hold
 * credentials are masked whoever logs them; messages never hold any. A line that is written in a span names it. What jobs, providers and hosts say in it can do nothing to a terminal.
 */
export function createLogger(level: Config['logs']['level'], to: DestinationStream = pino.destination({ dest: 2, sync: true })): Logger {
  const secretFields = ['token', 'password', 'apiKey', 'privateKey', 'authorization', 'secret', 'env', 'url']
  return pino(
    {
      level,
      base: { pid: process.pid },
      mixin: traceFields,
      redact: { paths: secretFields.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]), censor: '[hidden]' },
    },
    harmless(to),
  )
}

function harmless(destination: DestinationStream): DestinationStream {
  return { write: (line) => destination.write(harmlessJson(line)) }
}
