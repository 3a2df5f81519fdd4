/**
 * `npm run test:asan`: the tests once more, with the addon built under AddressSanitizer, LeakSanitizer and UBSan.
 *
 * Node itself is not instrumented: the runtime is preloaded, so its malloc is checked and its code is not. Reports go to
 * files, so that one from a child process whose output or exit code nobody looks at counts too. Arguments go to vitest.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { filesBelow, root, run } from './setup.mjs'
import { finish, setUpSteps, step, vitest } from './tally.mjs'

const reports = join(root, 'build/asan')
rmSync(reports, { recursive: true, force: true })
mkdirSync(reports, { recursive: true })

await setUpSteps('--asan')
const library = (await run('gcc', ['-print-file-name=libasan.so'])).trim()
await vitest(process.argv.slice(2), {
  LD_PRELOAD: library,
  FD_REACTOR_ADDON: join(root, 'packages/core/build/Debug/fd_reactor.node'),
  ASAN_OPTIONS: `log_path=${reports}/report`,
  LSAN_OPTIONS: `suppressions=${root}/scripts/lsan.supp:print_suppressions=0`,
  UBSAN_OPTIONS: `print_stacktrace=1:log_path=${reports}/report`,
})
await step('sanitizer reports', () => {
  const texts = filesBelow(reports).map((file) => readFileSync(file, 'utf8'))
  if (texts.length > 0) throw Object.assign(new Error(`${texts.length}`), { output: texts.join('\n') })
})
finish()
