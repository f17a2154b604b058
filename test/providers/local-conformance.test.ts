import { describe } from 'vitest'
import { bubblewrapWorks } from './local-sandboxes.js'
import { describeLocalConformance } from './local-under-test.js'

// Behind walls where this machine has them; there, the provider without any is in local-plain-conformance.test.ts.
if (!bubblewrapWorks) describe.skip('provider conformance: local with bubblewrap, which does not work here')
describeLocalConformance(bubblewrapWorks ? 'bubblewrap' : 'none')
