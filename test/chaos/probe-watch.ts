import type { ChildProcess } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'

/** What the probes of one consumer said, and when its parent knew what of it. */
interface Probed {
  readonly url: string
  readonly pid: number | undefined
  /** It said that it takes jobs. */
  started: boolean
  /** It was told to stop. */
  stopping: boolean
  gone: boolean
  /** It has said that it is not ready, after it was told to stop. */
  left: boolean
  answers: number
}

/**
 * Asks each consumer's probes, as Kubernetes would, from before its start to its end: it always lives; it is ready once it has started, but while Redis is failed over;
 * it is not from soon after it was told to stop, and never again.
 */
export class ProbeWatch {
  private readonly probed: Probed[] = []
  private readonly watching: Promise<void>[] = []
  readonly problems: string[] = []
  /** Redis is failed over: whoever can't reach it is not ready, and that is right. */
  away = false

  watch(url: string, child: ChildProcess): void {
    const probed: Probed = { url, pid: child.pid, started: false, stopping: false, gone: false, left: false, answers: 0 }
    child.on('message', (message) => {
      if (message === 'started') probed.started = true
    })
    child.once('exit', () => (probed.gone = true))
    this.probed.push(probed)
    this.watching.push(this.ask(probed))
  }

  /** Of a process that is told to stop now. */
  stopping(pid: number | undefined): void {
    for (const probed of this.probed) if (probed.pid === pid) probed.stopping = true
  }

  /** Waits for the last consumers' ends, so that each was asked to its own. @returns how often they were asked, and answered. */
  async close(): Promise<number> {
    await Promise.all(this.watching)
    for (const { pid, answers } of this.probed) if (answers === 0) this.problems.push(`consumer ${pid ?? ''}: its probes were never answered`)
    return this.probed.reduce((sum, { answers }) => sum + answers, 0)
  }

  private async ask(probed: Probed): Promise<void> {
    while (!probed.gone) {
      const before = { started: probed.started, stopping: probed.stopping, away: this.away }
      for (const path of ['healthz', 'readyz'] as const) {
        const answer = await fetch(`${probed.url}${path}`, { signal: AbortSignal.timeout(15_000) }).then(async (response) => ({ status: response.status, text: await response.text() }), () => null)
        // A process that ends hangs up.
        if (answer === null) continue
        probed.answers++
        const say = (what: string) => this.problems.push(`consumer ${probed.pid ?? ''}: /${path} answered ${answer.status} ${what}: ${answer.text}`)
        if (path === 'healthz' && answer.status !== 200) say('although it lives')
        if (path === 'readyz' && answer.status === 200 && probed.left) say('after it had said that it stops')
        if (path === 'readyz' && answer.status !== 200 && before.started && !probed.stopping && !before.away && !this.away) say('although it takes jobs')
        if (path === 'readyz' && answer.status !== 200 && before.stopping) probed.left = true
      }
      await delay(200)
    }
  }
}
