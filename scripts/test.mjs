/** `npm test`: set-up, every check, every test once. Arguments go to vitest. */
import * as checks from './checks.mjs'
import { finish, setUpSteps, step, vitest } from './tally.mjs'

await setUpSteps()
for (const check of [...checks.lint, ...checks.docs, ...checks.pack]) await step(...check)
await vitest(process.argv.slice(2))
console.log('\nCounted: every test of vitest, and each step marked ✓, ✗ or - above as one.')
finish()
