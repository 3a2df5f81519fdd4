/** `npm run build`, `lint`, `format`, `docs`, `pack`: what the command needs of set-up, then its checks. */
import * as checks from './checks.mjs'
import { installDependencies, setUp } from './setup.mjs'
import { finish, step } from './tally.mjs'

const name = process.argv[2]
// The others read sources only, and so work on a tree that does not compile.
const needsBuild = name === 'build' || name === 'pack'
if (await step('set-up', needsBuild ? setUp : installDependencies)) {
  for (const check of checks[name] ?? []) await step(...check)
}
finish()
