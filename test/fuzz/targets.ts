import type { Target } from './harness.js'
import { answerTexts, packs, runnerAnswers, specs, tokens } from './reading-targets.js'
import { board, codeStorageApi, gitProtocol } from './server-targets.js'

/** Whatever is read from outside, by name. */
export const targets: readonly Target[] = [runnerAnswers, answerTexts, packs, tokens, specs, gitProtocol, codeStorageApi, board]
