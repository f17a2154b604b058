import type { Target } from './harness.js'
import { answerTexts, artifactNames, packs, reports, runnerAnswers, specs, tokens } from './reading-targets.js'
import { board, codeStorageApi, gitProtocol } from './server-targets.js'

/** Whatever is read from outside, by name. */
export const targets: readonly Target[] = [runnerAnswers, answerTexts, packs, tokens, specs, reports, artifactNames, gitProtocol, codeStorageApi, board]
