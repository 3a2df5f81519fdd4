/**
 * Preloaded into a Node program (`--import threads-elsewhere.js?processor=N`): moves every thread but the one that runs JavaScript
 * to processor N.
 *
 * V8 compiles and collects on threads of its own. On the loop's processor each may hold it for milliseconds: the kernel lets a thread finish its slice
 * (2.8 ms) before it looks at who has woken.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'

const processor = new URL(import.meta.url).searchParams.get('processor') ?? ''
for (const thread of readdirSync('/proc/self/task')) {
  if (Number(thread) === process.pid) continue
  execFileSync('taskset', ['--cpu-list', '--pid', processor, thread], { stdio: 'ignore' })
}
