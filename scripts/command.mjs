/** `npm run lint`, `format`, `docs`, `pack`: set-up, then those checks. Without a name (`npm run build`): set-up alone. */
import * as checks from './checks.mjs'
import { setUp } from './setup.mjs'
import { finish, step } from './tally.mjs'

if (await step('set-up', setUp)) {
  for (const check of checks[process.argv[2]] ?? []) await step(...check)
}
finish()
