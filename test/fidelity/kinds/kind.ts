/** A kind of repository, or of what an agent does in one. Scripts are for bash and stop at the first command that fails. */
export interface Kind {
  readonly name: string
  /** Makes the repository, in a folder after `git init`; left out, `plainOrigin`. */
  readonly origin?: string
  /** What the job's `setup` does, in every sandbox anew. */
  readonly setup?: string
  readonly agent: string
  /** What the sandbox's image has in its environment; a "~" at the beginning is the home. */
  readonly env?: Readonly<Record<string, string>>
  /** A program without which it can't be tried. */
  readonly needs?: 'git-lfs' | 'git-crypt'
  /** The only way of transfer for which it can be judged so. */
  readonly only?: 'minted' | 'brokered'
  /** Where CI has it lose its sandbox; left out, in turn. */
  readonly phase?: 'setup' | 'step' | 'between' | 'push'
  /** Paths that can't be saved as they are and are named instead. Left out: none. */
  readonly unsaved?: readonly string[]
  /**
   * The diff from the base to the job's branch, `A`, `M`, `D` or `T` by path, where it is not that of the agent's own `git add -A && git
   * commit`: because that fails, or would publish what nobody can fetch.
   */
  readonly promoted?: Readonly<Record<string, string>>
  /** What a move does not hold, by the keys of `View`; each is listed in docs/architecture.md. */
  readonly notHeld?: RegExp
}

/** Some of everything, in one commit on another. */
export const plainOrigin = String.raw`
mkdir -p src docs infra build "deep/er/est"
echo first > first.txt; git add -A; git commit -qm First
printf 'ignored/\n*.log\n' > .gitignore
echo a > src/a; echo b > docs/b; echo c > infra/c; echo d > deep/er/est/d
printf '#!/bin/sh\necho run\n' > run.sh; chmod +x run.sh
head -c 20000 /dev/urandom > binary.bin
ln -s src/a link; echo odd > $'odd name \n"ü".txt'; echo keep > build/keep; : > empty
for i in 1 2 3 4 5 6; do echo "file $i" > file-$i; done
echo hello > README.md
git add -A; git commit -qm Begin`

/** An identity, as agents and their set-ups give themselves one. */
export const identity = 'git config --global user.name Agent; git config --global user.email agent@example.invalid'
