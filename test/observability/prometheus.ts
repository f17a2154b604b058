import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'

const program = '/usr/bin/prometheus'
export const hasPrometheus = existsSync(program)

const answer = z.object({ status: z.literal('success'), data: z.object({ result: z.array(z.object({ metric: z.record(z.string(), z.string()), values: z.array(z.tuple([z.number(), z.string()])).optional() })) }) })
const alertsAnswer = z.object({ data: z.object({ alerts: z.array(z.object({ labels: z.record(z.string(), z.string()), state: z.string() })) }) })

export interface RunningPrometheus {
  readonly url: string
  /** Scrapes this address too from now on. */
  watch(url: string): Promise<void>
  /** How many series with a number a query gives over the last `seconds`. @throws what Prometheus has against it. */
  series(expr: string, seconds: number): Promise<number>
  /** The names of the alerts that fire now. */
  firing(): Promise<string[]>
  close(): Promise<void>
}

/** A real Prometheus that scrapes these addresses each second. @param rules the text of a file of rules. */
export async function startPrometheus(targets: readonly string[], rules?: string): Promise<RunningPrometheus> {
  const folder = await mkdtemp(join(tmpdir(), 'sy-prometheus-'))
  await mkdir(join(folder, 'data'))
  await writeFile(join(folder, 'rules.yml'), rules ?? 'groups: []\n')
  const watched = new Set(targets)
  const targetsFile = join(folder, 'targets.json')
  // Written whole or not at all.
  const writeTargets = async () => {
    await writeFile(`${targetsFile}.new`, JSON.stringify([{ targets: [...watched].map((url) => new URL(url).host) }]))
    await rename(`${targetsFile}.new`, targetsFile)
  }
  await writeTargets()
  const config = {
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: [join(folder, 'rules.yml')],
    scrape_configs: [{ job_name: 'switchyard', file_sd_configs: [{ files: [targetsFile], refresh_interval: '1s' }] }],
  }
  // JSON is YAML.
  await writeFile(join(folder, 'prometheus.yml'), JSON.stringify(config))
  const port = await freePort()
  const child = spawn(program, [`--config.file=${join(folder, 'prometheus.yml')}`, `--storage.tsdb.path=${join(folder, 'data')}`, `--web.listen-address=127.0.0.1:${port}`, '--log.level=error'], { stdio: ['ignore', 'ignore', 'inherit'] })
  const url = `http://127.0.0.1:${port}`
  const deadline = Date.now() + 60_000
  while (!(await fetch(`${url}/-/ready`).then(({ ok }) => ok, () => false))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill('SIGKILL')
      throw new Error('Prometheus did not start')
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return {
    url,
    async watch(target) {
      watched.add(target)
      await writeTargets()
    },
    async series(expr, seconds) {
      const end = Date.now() / 1000
      const query = new URLSearchParams({ query: expr.replaceAll('$__rate_interval', '30s'), start: String(end - seconds), end: String(end), step: '2' })
      const response = await fetch(`${url}/api/v1/query_range?${query.toString()}`)
      const body: unknown = await response.json()
      if (!response.ok) throw new Error(`${expr}: ${JSON.stringify(body)}`)
      // The quantile of nothing is no number.
      return answer.parse(body).data.result.filter(({ values = [] }) => values.some(([, value]) => Number.isFinite(Number(value)))).length
    },
    async firing() {
      const { data } = alertsAnswer.parse(await (await fetch(`${url}/api/v1/alerts`)).json())
      return data.alerts.filter(({ state }) => state === 'firing').map(({ labels }) => labels['alertname'] ?? '')
    },
    async close() {
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
