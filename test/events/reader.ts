// A reader that takes one event, says so to its parent, and never acknowledges it.
import { subscribe } from '../../src/events/index.js'

const [url = '', group = ''] = process.argv.slice(2)
subscribe({ url }, group, async (event) => {
  process.send?.(event.subject)
  await new Promise(() => undefined)
}, { redeliverAfterMs: 300 })
