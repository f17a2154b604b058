/**
 * `npm run attack`: tries every attack at every place that this machine and this user have, and prints what came of it. Run it once as root and once as
 * an ordinary user. Arguments name places. `--write` brings docs/security.md up to date with what is expected. Exits 1 when a promise is broken.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { attack, keepsPromise } from './harness.js'
import { placeNames } from './attacks.js'
import { placesHere } from './places.js'
import { documentWithAttacks, expectedOf, rows } from './table.js'

const document = 'docs/security.md'
if (process.argv.includes('--write')) {
  await writeFile(document, documentWithAttacks(await readFile(document, 'utf8')))
} else {
  let broken = 0
  const wanted = process.argv.slice(2)
  for (const [name, open] of await placesHere()) {
    if (wanted.length > 0 && !wanted.includes(name)) continue
    const place = await open()
    try {
      process.stdout.write(`\n${placeNames[name]}\n`)
      for (const found of await attack(place)) {
        const row = rows.find(({ tries }) => tries === found.tries)
        const kept = row !== undefined && keepsPromise(expectedOf(row, name), found, name)
        if (!kept) broken++
        process.stdout.write(`  ${kept ? ' ' : '!'} ${found.outcome.padEnd(8)} ${found.tries.replaceAll('`', '')}${found.detail === '' ? '' : ` (${found.detail})`}\n`)
      }
    } finally {
      await place.close()
    }
  }
  process.stdout.write(broken === 0 ? '\nevery promise is kept\n' : `\n${broken} promises are broken; they are marked with "!"\n`)
  process.exitCode = broken === 0 ? 0 : 1
}
