const undo: (() => unknown)[] = []

/** Registers what to do after the test, last first. `test/setup.ts` sees to it in every file. */
export function after(step: () => unknown): void {
  undo.push(step)
}

/** Does what was registered. */
export async function undone(): Promise<void> {
  for (const step of undo.splice(0).reverse()) await step()
}
