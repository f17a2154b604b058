import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { deniedAlways, deniedOutsideNestedNamespaces, deniedUncounted, inspected, newestKnown } from '../../src/providers/local/denied-syscalls.js'
import { type FilterOptions, seccompProgram } from '../../src/providers/local/seccomp.js'
import fc from '../seeded-fast-check.js'

const strict: FilterOptions = { nestedNamespaces: false, unixSockets: true, uncountedMemory: true }
const architectures = ['x64', 'arm64'] as const
const audit = { x64: 0xc000003e, arm64: 0xc00000b7 }

interface Call {
  readonly number: number
  readonly architecture?: number
  /** Halves of the first three arguments, low and high. */
  readonly args?: readonly (readonly [number, number])[]
}

/** What the kernel would answer: the machine that runs classic BPF, by its description in the kernel's documents. */
function answer(program: Buffer, { number, architecture, args = [] }: Call): string {
  const data = new DataView(new ArrayBuffer(64))
  data.setUint32(0, number, true)
  data.setUint32(4, architecture ?? 0, true)
  args.forEach(([low, high], index) => {
    data.setUint32(16 + 8 * index, low, true)
    data.setUint32(20 + 8 * index, high, true)
  })
  let accumulator = 0
  for (let at = 0; at < program.length / 8; at++) {
    const [code, yes, no, k] = [program.readUInt16LE(at * 8), program.readUInt8(at * 8 + 2), program.readUInt8(at * 8 + 3), program.readUInt32LE(at * 8 + 4)]
    const branch = (taken: boolean) => (at += taken ? yes : no)
    if (code === 0x20) accumulator = data.getUint32(k, true)
    else if (code === 0x15) branch(accumulator === k)
    else if (code === 0x25) branch(accumulator > k)
    else if (code === 0x45) branch(((accumulator & k) >>> 0) !== 0)
    else if (code === 0x05) at += k
    else if (code === 0x06) return k === 0x7fff0000 ? 'allowed' : k === 0x80000000 ? 'killed' : ({ 1: 'EPERM', 38: 'ENOSYS', 97: 'EAFNOSUPPORT' }[k & 0xffff] ?? String(k))
    else throw new Error(`instruction ${code}`)
  }
  throw new Error('it ran off the end')
}

describe.each(architectures)('the seccomp program for %s', (architecture) => {
  const ask = (call: Call, options: Partial<FilterOptions> = {}) => answer(seccompProgram(architecture, { ...strict, ...options }), { architecture: audit[architecture], ...call })
  const numbered = (list: typeof deniedAlways) => list.flatMap((each) => (each[architecture] === null ? [] : [each[architecture]]))

  it('denies what is listed and no other call', () => {
    const denied = new Set([...numbered(deniedAlways), ...numbered(deniedOutsideNestedNamespaces)])
    const looked = new Set<number>(Object.values(inspected).map((each) => each[architecture]))
    for (let number = 0; number <= newestKnown; number++) {
      if (!looked.has(number)) expect([number, ask({ number })]).toEqual([number, denied.has(number) ? 'EPERM' : 'allowed'])
    }
    for (const number of [newestKnown + 1, 0x40000000, 0x40000000 | 1, 0xffffffff]) expect(ask({ number })).toBe('ENOSYS')
    expect(ask({ number: 1, architecture: 0x40000003 })).toBe('killed')
    expect(ask({ number: 1, architecture: audit[architecture === 'x64' ? 'arm64' : 'x64'] })).toBe('killed')
  })

  it('lets nobody make a namespace, whatever else is asked for', () => {
    const flags = { NEWTIME: 0x80, NEWNS: 0x20000, NEWCGROUP: 0x2000000, NEWUTS: 0x4000000, NEWIPC: 0x8000000, NEWUSER: 0x10000000, NEWPID: 0x20000000, NEWNET: 0x40000000 }
    fc.assert(
      fc.property(fc.constantFrom(...Object.values(flags)), fc.integer({ min: 0, max: 0xffffffff }), fc.integer({ min: 0, max: 0xffffffff }), (flag, others, high) => {
        expect(ask({ number: inspected.unshare[architecture], args: [[(others | flag) >>> 0, high]] })).toBe('EPERM')
        if (flag !== flags.NEWTIME) expect(ask({ number: inspected.clone[architecture], args: [[(others | flag) >>> 0, high]] })).toBe('EPERM')
      }),
    )
    expect(ask({ number: inspected.clone3[architecture] })).toBe('ENOSYS')
    // A thread and a fork, as the C library makes them.
    for (const low of [0x3d0f00, 0x1200011]) expect(ask({ number: inspected.clone[architecture], args: [[low, 0]] })).toBe('allowed')
    expect(ask({ number: inspected.unshare[architecture], args: [[0x400, 0]] })).toBe('allowed')
  })

  it('looks at the half of an argument that the kernel looks at', () => {
    for (const high of [0, 1, 0xffffffff]) {
      for (const request of [0x5412, 0x541c]) expect(ask({ number: inspected.ioctl[architecture], args: [[0, 0], [request, high]] })).toBe('EPERM')
      expect(ask({ number: inspected.ioctl[architecture], args: [[0, 0], [0x5401, high]] })).toBe('allowed')
    }
  })

  it('gives only the families of sockets that programs of a sandbox need', () => {
    const socket = (family: number, protocol = 0, options = {}) => ask({ number: inspected.socket[architecture], args: [[family, 0], [1, 0], [protocol, 0]] }, options)
    for (let family = 0; family < 46; family++) expect([family, socket(family)]).toEqual([family, [1, 2, 10, 16].includes(family) ? 'allowed' : 'EAFNOSUPPORT'])
    for (let protocol = 1; protocol < 23; protocol++) expect(socket(16, protocol)).toBe('EAFNOSUPPORT')
    expect(socket(1, 0, { unixSockets: false })).toBe('EAFNOSUPPORT')
    expect(socket(2, 0, { unixSockets: false })).toBe('allowed')
  })

  it('bounds personalities, and with options memory and namespaces', () => {
    const personality = (value: number) => ask({ number: inspected.personality[architecture], args: [[value, 0]] })
    expect([0, 8, 0x20000, 0x20008, 0xffffffff].map(personality)).toEqual(Array(5).fill('allowed'))
    expect([0x400000, 0x100000, 0x40000].map(personality)).toEqual(Array(3).fill('EPERM'))
    for (const number of numbered(deniedUncounted)) {
      expect(ask({ number })).toBe('allowed')
      expect(ask({ number }, { uncountedMemory: false })).toBe('EPERM')
    }
    for (const number of numbered(deniedOutsideNestedNamespaces)) expect(ask({ number }, { nestedNamespaces: true })).toBe('allowed')
    for (const number of numbered(deniedAlways)) expect(ask({ number }, { nestedNamespaces: true })).toBe('EPERM')
    for (const name of ['unshare', 'clone', 'clone3'] as const) expect(ask({ number: inspected[name][architecture], args: [[0x10000000, 0]] }, { nestedNamespaces: true })).toBe('allowed')
  })

  it.skipIf(spawnSync('scmp_sys_resolver', ['-h']).error !== undefined)('has the numbers that libseccomp knows', () => {
    const machine = { x64: 'x86_64', arm64: 'aarch64' }[architecture]
    for (const each of [...deniedAlways, ...deniedOutsideNestedNamespaces, ...deniedUncounted]) {
      const number = Number(spawnSync('scmp_sys_resolver', ['-a', machine, each.name]).stdout.toString())
      if (number >= 0) expect([each.name, each[architecture]]).toEqual([each.name, number])
    }
  })

  // The table that the kernel gives to C libraries. Not every machine has it installed.
  const table = { x64: '/usr/include/x86_64-linux-gnu/asm/unistd_64.h', arm64: '/usr/include/asm-generic/unistd.h' }[architecture]
  it.skipIf(!existsSync(table))('answers every call of the kernel’s own table by its name as the lists say, and no call by another’s number', () => {
    // arm64 takes the generic table, with the calls that its own header asks for; those that it leaves out have no number there.
    const numbers = new Map([...readFileSync(table, 'utf8').matchAll(/^#define __NR(3264)?_(\w+) (\d+)$/gm)].map(([, , name = '', number]) => [name, Number(number)]))
    expect(numbers.size).toBeGreaterThan(280)
    const listed = new Map([...deniedAlways, ...deniedOutsideNestedNamespaces].map((each) => [each.name, each[architecture]]))
    for (const [name, number] of numbers) {
      if (['arch_specific_syscall', 'syscalls', 'sync_file_range2'].includes(name) || name in inspected) continue
      expect([name, number, ask({ number })]).toEqual([name, number, listed.has(name) ? 'EPERM' : 'allowed'])
    }
    for (const each of [...deniedAlways, ...deniedOutsideNestedNamespaces, ...deniedUncounted]) if (numbers.has(each.name)) expect([each.name, each[architecture]]).toEqual([each.name, numbers.get(each.name)])
    for (const [name, each] of Object.entries(inspected)) expect([name, each[architecture]]).toEqual([name, numbers.get(name)])
  })
})
