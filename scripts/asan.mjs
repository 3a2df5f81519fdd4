/**
 * `npm run test:asan`: the tests once more, with the addon built under AddressSanitizer, LeakSanitizer and UBSan.
 *
 * Node itself is not instrumented; the runtime is preloaded into it and into every child process. A memory error or
 * undefined behaviour aborts the process. Reports of memory errors and leaks go to files, so that one counts even if it
 * comes from a process whose output and exit code nobody looks at. Arguments go to vitest.
 *
 * Leaks are looked for when a process ends by itself: what the tests start, and vitest, which runs the conformance suite
 * in threads of its own (its forks are killed). They do not change an exit code, for Node, bash and python leave much
 * behind when they exit; one counts when it was our addon that allocated.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { filesBelow, root, run } from './setup.mjs'
import { finish, setUpSteps, step, vitest } from './tally.mjs'

const reports = join(root, 'build/asan')
rmSync(reports, { recursive: true, force: true })
mkdirSync(reports, { recursive: true })

await setUpSteps('--asan')
// Programs of others are not looked into, and some of them hang with the runtime in them.
const foreign = join(reports, 'bin')
mkdirSync(foreign)
for (const name of ['curl', 'logger', 'nginx', 'openssl'])
  writeFileSync(
    join(foreign, name),
    `#!/bin/sh\nunset LD_PRELOAD\nPATH="\${PATH#${foreign}:}"\nexec ${name} "$@"\n`,
    { mode: 0o755 },
  )
await vitest(process.argv.slice(2), {
  PATH: `${foreign}:${join(root, 'node_modules/.bin')}:${process.env.PATH}`,
  LD_PRELOAD: (await run('gcc', ['-print-file-name=libasan.so'])).trim(),
  FD_REACTOR_ADDON: join(root, 'packages/core/build/Debug/fd_reactor.node'),
  ASAN_OPTIONS: `log_path=${reports}/report:abort_on_error=1:exitcode=0:stack_trace_format='    #%n %f %S [%m]'`,
  LSAN_OPTIONS: `suppressions=${join(root, 'scripts/lsan.supp')}:print_suppressions=0`,
  UBSAN_OPTIONS: 'abort_on_error=1:print_stacktrace=1',
})
await step('sanitizer reports', () => {
  const ours = filesBelow(reports)
    .filter((file) => !file.startsWith(foreign))
    .flatMap((file) => errorsIn(readFileSync(file, 'utf8')))
  if (ours.length > 0) throw Object.assign(new Error(`${ours.length} of them`), { output: ours.join('\n\n') })
})
finish()

/** The report itself when it is of an error; of a report of leaks those that are ours. */
function errorsIn(report) {
  return report.includes('LeakSanitizer: detected') ? report.split('\n\n').filter(isOurLeak) : [report]
}

/** Whoever called malloc is the first who is neither the C++ library nor Node-API on somebody's behalf. */
function isOurLeak(block) {
  const frames = block.split('\n').filter((line) => /^ +#\d/.test(line))
  const allocator = frames.find((line) => !/\[.*\/lib[^/]*\.so[^/]*\]$|#\d+ napi_/.test(line))
  return /\[.*\/(fd_reactor|test_addon)\.node\]$/.test(allocator ?? '')
}
