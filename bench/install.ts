// What Switchyard adds to a program that has it: the size of its package and of what that needs, and how long importing each of its exports takes, in a
// process of its own, beside one that imports nothing but BullMQ. Packs and builds a copy of the checkout. ROUNDS=n changes how often.
import { exportedNames, importInstalled, installPacked } from '../test/deploy/packed.js'
import { median, report } from './report.js'

const rounds = Number(process.env['ROUNDS'] ?? 5)
const installed = await installPacked()
const mib = (bytes: number) => Number((bytes / 2 ** 20).toFixed(2))
try {
  const names = ['bullmq', ...(await exportedNames())]
  const taken = new Map<string, number[]>(names.map((name) => [name, []]))
  // They take turns, so that what the machine does meanwhile meets all alike.
  for (let round = 0; round < rounds; round++) for (const name of names) taken.get(name)?.push((await importInstalled(installed.folder, name)).ms)
  await report('install', {
    packedMiB: mib(installed.packedBytes),
    unpackedMiB: mib(installed.unpackedBytes),
    files: installed.files.length,
    dependencies: installed.dependencies.length,
    dependenciesMiB: mib(installed.dependencyBytes),
    ...Object.fromEntries([...taken].map(([name, ms]) => [`import ${name}, ms`, Math.round(median(ms))])),
  })
} finally {
  await installed.remove()
}
