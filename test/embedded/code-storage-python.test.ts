import { spawn } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { localStorage, org, type LocalStorage } from '../git/local-storage.js'

/**
 * The maker's Python SDK, where there is one: SWITCHYARD_PYTHON names an interpreter that has it
 * (`python3 -m venv py && py/bin/pip install pierre-storage`).
 */
const python = process.env['SWITCHYARD_PYTHON']

let storage: LocalStorage
beforeAll(async () => {
  storage = await localStorage()
})
afterAll(() => storage.close())

describe.skipIf(python === undefined)('the Python SDK against the local Code Storage', () => {
  it('has an answer to every method', async () => {
    const child = spawn(python!, [new URL('python-sdk.py', import.meta.url).pathname], { stdio: ['pipe', 'pipe', 'pipe'] })
    child.stdin.end(JSON.stringify({ name: org, key: storage.privateKey, api_base_url: storage.server.apiUrl, storage_base_url: storage.server.url.replace('http://', '') }))
    let out = ''
    let err = ''
    child.stdout.on('data', (text: Buffer) => (out += text.toString()))
    child.stderr.on('data', (text: Buffer) => (err += text.toString()))
    const code = await new Promise((resolve) => child.once('close', resolve))
    expect([code, code === 0 ? '' : err]).toEqual([0, ''])
    const { methods, missing } = JSON.parse(out) as { methods: number; missing: string[] }
    expect(methods).toBeGreaterThan(35)
    expect(missing).toEqual([])
    expect(storage.log.filter((line) => !line.includes('one machine'))).toEqual([])
  }, 60_000)
})
