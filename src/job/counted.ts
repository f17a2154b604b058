/** How many there are, with the word for it: `1 commit`, `2 commits`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`
}
