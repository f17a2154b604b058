// Looks at one container's deadline from outside of it, and kills the container when that has passed. keeper.sh runs this again and again:
//   node keep-deadline.mjs SOCKET CONTAINER FREEING KNOWN
// FREEING is the body of a container that frees the engine where a job keeps it waiting (free.ts).
// KNOWN is the latest deadline that was seen, in seconds since 1970, or 0. Prints "SECONDS DEADLINE": after how many seconds to look again, and
// what is known by then; nothing when the container is gone. Exits with 1 when the engine can't be asked.
//
// A file of its own, without imports of ours: it runs beside the consumer that started it, and after it.
import { spawn } from 'node:child_process'
import { createHmac, timingSafeEqual } from 'node:crypto'
import { request } from 'node:http'

const [socketPath, id, freeing = '{}', known = '0'] = process.argv.slice(2)
const path = `/containers/${encodeURIComponent(id ?? '')}`
/** The container's own process gets this long to end it first. */
const graceSeconds = 3
/** Of what the job's own programs say about the deadline nothing else is believed than what bears the key's signature. */
const mostBytes = 64 * 1024

/** @returns the status and what was said, cut off. A job's program may never end: then what it has said so far. */
function call(method, target, body, timeoutMs = 20_000) {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : JSON.stringify(body)
    const headers = payload === undefined ? { host: 'engine' } : { host: 'engine', 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
    const sent = request({ socketPath, method, path: target, headers, agent: false }, (response) => {
      let text = ''
      const done = () => {
        resolve({ status: response.statusCode ?? 0, text })
        sent.destroy()
      }
      response.setEncoding('latin1')
      response.on('data', (piece) => {
        if (target.startsWith('/exec/')) text = `${text}${piece}`.slice(-mostBytes)
        else text += piece
      })
      response.once('end', done)
      response.once('error', done)
      setTimeout(done, timeoutMs).unref()
    })
    sent.once('error', reject)
    setTimeout(() => reject(new Error('no answer')), timeoutMs).unref()
    sent.end(payload)
  })
}

/** Ends what keeps the engine waiting: commands of the container that are stopped before they began, or all of it. */
async function free(what) {
  const body = JSON.parse(freeing)
  const here = spawn('/bin/sh', ['-c', body.Entrypoint[2], 'switchyard-free', what, id], { cwd: '/', stdio: 'ignore' })
  const code = await new Promise((resolve) => here.once('exit', resolve).once('error', resolve))
  if (code === 0) return
  const made = await call('POST', '/containers/create', { ...body, Cmd: [what, id] })
  if (made.status !== 201) return
  const path = `/containers/${JSON.parse(made.text).Id}`
  const started = await call('POST', `${path}/start`)
  if (started.status !== 204) await call('DELETE', `${path}?force=true&v=true`)
}

/** A call that the container's own processes can keep from being answered. */
async function unhindered(what, method, target, body) {
  const again = setInterval(() => void free(what).catch(() => undefined), 10_000)
  try {
    return await call(method, target, body, 60_000)
  } finally {
    clearInterval(again)
  }
}

/** What the container's file says, if the consumer has written it. */
async function written(key, file) {
  const made = await unhindered('starts', 'POST', `${path}/exec`, { AttachStdout: true, Cmd: ['cat', file] })
  if (made.status !== 201) return 0
  const again = setTimeout(() => void free('starts').catch(() => undefined), 5_000)
  const { text } = await call('POST', `/exec/${JSON.parse(made.text).Id}/start`, { Detach: false, Tty: false }, 10_000).finally(() => clearTimeout(again))
  let latest = 0
  for (const [, seconds, signature] of text.matchAll(/(\d{1,12}) ([0-9a-f]{64})/g)) {
    const right = createHmac('sha256', key).update(seconds).digest()
    if (timingSafeEqual(right, Buffer.from(signature, 'hex'))) latest = Math.max(latest, Number(seconds))
  }
  return latest
}

const found = await unhindered('starts', 'GET', `${path}/json`)
if (found.status !== 404) {
  if (found.status !== 200) throw new Error(`the engine answered ${found.status}`)
  const labels = JSON.parse(found.text).Config?.Labels ?? {}
  const first = Number(labels['dev.switchyard.deadline'] ?? 0)
  const key = labels['dev.switchyard.deadline-key'] ?? ''
  const now = () => Math.floor(Date.now() / 1000)
  let deadline = Math.max(first, Number(known))
  if (key !== '') deadline = Math.max(deadline, await written(key, labels['dev.switchyard.deadline-file']).catch(() => 0))
  const left = deadline + graceSeconds - now()
  if (left > 0) {
    // Well before the end, so that one look which fails is none too many.
    process.stdout.write(`${left > 60 ? Math.ceil(left / 2) : left} ${deadline}\n`)
  } else {
    const ended = await unhindered('all', 'DELETE', `${path}?force=true&v=true`)
    // Podman says some refusals of a removal under way by a 500; it is asked again.
    if (![200, 204, 404].includes(ended.status)) throw new Error(`the engine answered ${ended.status}`)
  }
}
