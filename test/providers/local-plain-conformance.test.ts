import { describeLocalConformance } from './local-under-test.js'

describeLocalConformance('none')
