import { deniedAlways, deniedOutsideNestedNamespaces, deniedUncounted, type DeniedSyscall, inspected, newestKnown } from './denied-syscalls.js'

/** The architectures that a filter can be made for, by Node's names. */
export type FilteredArchitecture = 'x64' | 'arm64'

export interface FilterOptions {
  /** Let commands make user namespaces, and mounts in them. */
  readonly nestedNamespaces: boolean
  /** Let them make UNIX sockets. Not where they share the host's network, with whose abstract sockets they would connect. */
  readonly unixSockets: boolean
  /** Let them make memory that belongs to no process; see `deniedUncounted`. */
  readonly uncountedMemory: boolean
}

export function canFilter(architecture: string): architecture is FilteredArchitecture {
  return architecture === 'x64' || architecture === 'arm64'
}

const auditArchitecture = { x64: 0xc000003e, arm64: 0xc00000b7 }

// What a program returns. An error carries its number in the lower half.
const allow = 0x7fff0000
const killProcess = 0x80000000
const errorWith = (errno: number) => 0x00050000 | errno
const [EPERM, ENOSYS, EAFNOSUPPORT] = [1, 38, 97]

// Where `struct seccomp_data` has them; of arguments the lower half on a little-endian machine, which is all that the kernel looks at in
// those that are compared here.
const numberAt = 0
const architectureAt = 4
const argumentAt = (index: number) => 16 + 8 * index

const newNamespaceFlags = 0x10000000 | 0x00020000 | 0x20000000 | 0x08000000 | 0x04000000 | 0x40000000 | 0x02000000
/** Of `unshare` alone: in `clone` the lowest byte is a signal. */
const newTimeNamespace = 0x80
/** Put characters into a terminal's input. */
const injectingIoctls = [0x5412, 0x541c]
/** PER_LINUX and PER_LINUX32, with and without UNAME26, and the question. */
const personalities = [0, 8, 0x20000, 0x20008, 0xffffffff]
const families = { unix: 1, inet: 2, inet6: 10, netlink: 16 }

/**
 * The seccomp program of a sandbox's commands, as `bwrap --seccomp` takes it: denied calls fail with EPERM, calls of other architectures
 * (32-bit programs) end the process, and of the rest nothing changes.
 */
export function seccompProgram(architecture: FilteredArchitecture, options: FilterOptions): Buffer {
  const denied: DeniedSyscall[] = [
    ...deniedAlways,
    ...(options.nestedNamespaces ? [] : deniedOutsideNestedNamespaces),
    ...(options.uncountedMemory ? [] : deniedUncounted),
  ]
  const numberOf = (name: keyof typeof inspected) => inspected[name][architecture]
  const isNumber = (name: keyof typeof inspected, no: string) => jumpIfEqual(numberOf(name), { no })
  return assemble([
    load(architectureAt),
    jumpIfEqual(auditArchitecture[architecture], { no: 'kill' }),
    load(numberAt),
    // x32 numbers, from 0x40000000, are above it too.
    jumpIfGreater(newestKnown, { yes: 'missing' }),
    ...denied.flatMap((each) => {
      const number = each[architecture]
      return number === null ? [] : [jumpIfEqual(number, { yes: 'denied' })]
    }),

    // Its flags are in memory, where a filter can't look; the C library then takes clone.
    ...(options.nestedNamespaces ? [] : [jumpIfEqual(numberOf('clone3'), { yes: 'missing' })]),
    ...(options.nestedNamespaces
      ? []
      : [
          isNumber('unshare', 'not unshare'),
          load(argumentAt(0)),
          jumpIfAnyBit(newNamespaceFlags | newTimeNamespace, { yes: 'denied', no: 'allowed' }),
          label('not unshare'),
          isNumber('clone', 'not clone'),
          load(argumentAt(0)),
          jumpIfAnyBit(newNamespaceFlags, { yes: 'denied', no: 'allowed' }),
          label('not clone'),
        ]),

    isNumber('ioctl', 'not ioctl'),
    load(argumentAt(1)),
    ...injectingIoctls.map((request) => jumpIfEqual(request, { yes: 'denied' })),
    jump('allowed'),
    label('not ioctl'),

    isNumber('personality', 'not personality'),
    load(argumentAt(0)),
    ...personalities.map((personality) => jumpIfEqual(personality, { yes: 'allowed' })),
    jump('denied'),
    label('not personality'),

    isNumber('socket', 'allowed'),
    load(argumentAt(0)),
    ...[...(options.unixSockets ? [families.unix] : []), families.inet, families.inet6].map((family) => jumpIfEqual(family, { yes: 'allowed' })),
    jumpIfEqual(families.netlink, { no: 'no such family' }),
    load(argumentAt(2)),
    // NETLINK_ROUTE: what lists interfaces.
    jumpIfEqual(0, { yes: 'allowed' }),
    label('no such family'),
    result(errorWith(EAFNOSUPPORT)),

    label('allowed'),
    result(allow),
    label('denied'),
    result(errorWith(EPERM)),
    label('missing'),
    result(errorWith(ENOSYS)),
    label('kill'),
    result(killProcess),
  ])
}

interface Instruction {
  readonly code: number
  readonly k: number
  /** Labels that it goes on at; the next instruction where left out. */
  readonly yes?: string
  readonly no?: string
  readonly always?: string
}
type Line = Instruction | { readonly label: string }
interface Targets {
  readonly yes?: string
  readonly no?: string
}

// The classic BPF that seccomp takes: one accumulator, absolute loads, forward jumps.
const load = (k: number): Line => ({ code: 0x20, k })
const jumpIfEqual = (k: number, targets: Targets): Line => ({ code: 0x15, k, ...targets })
const jumpIfGreater = (k: number, targets: Targets): Line => ({ code: 0x25, k, ...targets })
const jumpIfAnyBit = (k: number, targets: Targets): Line => ({ code: 0x45, k, ...targets })
const jump = (always: string): Line => ({ code: 0x05, k: 0, always })
const result = (k: number): Line => ({ code: 0x06, k })
const label = (name: string): Line => ({ label: name })

/** @returns `struct sock_filter` after `struct sock_filter`, little-endian. */
function assemble(lines: readonly Line[]): Buffer {
  const instructions: Instruction[] = []
  const positions = new Map<string, number>()
  for (const line of lines) {
    if ('label' in line) positions.set(line.label, instructions.length)
    else instructions.push(line)
  }
  const program = Buffer.alloc(instructions.length * 8)
  instructions.forEach(({ code, k, yes, no, always }, index) => {
    const distance = (name: string | undefined, most: number) => {
      const to = name === undefined ? index + 1 : positions.get(name)
      if (to === undefined || to <= index || to - index - 1 > most) throw new Error(`seccomp program: "${name}" can't be reached from instruction ${index}`)
      return to - index - 1
    }
    program.writeUInt16LE(code, index * 8)
    program.writeUInt8(distance(yes, 255), index * 8 + 2)
    program.writeUInt8(distance(no, 255), index * 8 + 3)
    program.writeUInt32LE((always === undefined ? k : distance(always, 65_535)) >>> 0, index * 8 + 4)
  })
  return program
}
