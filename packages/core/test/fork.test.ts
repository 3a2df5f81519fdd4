import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { runForJson } from './support/child.js'
import { testAddonPath } from './support/addon.js'
import { assertNoLeakedFds } from './support/fds.js'

assertNoLeakedFds()

const SIGSEGV = 11
const CORE = 128

/**
 * In a child that fork() made without exec every epoll set is still its parent's. Node 20 keeps V8's heap from such a child
 * (MADV_DONTFORK), so that the first JavaScript in it ends it with SIGSEGV; then this shows that its end leaves no trace.
 */
describe.runIf(existsSync(testAddonPath))('after fork() without exec', () => {
  test.each([
    ['closing sources and the reactor', 'bell.close(); reactor.close()'],
    [
      'pausing, resuming and adding',
      'bell.pause().resume(); try { new EventFd(reactor).on("event", () => {}) } catch {}',
    ],
    ['deferring and dispatching', 'try { reactor.defer(() => {}) } catch {}; reactor.dispatch()'],
    [
      'adding a source of another priority',
      'try { new EventFd(reactor, { priority: "high" }) } catch {}; reactor.close()',
    ],
    ['leaving listeners', 'bell.removeAllListeners()'],
  ])('%s in the child leaves the parent alone', async (_, action) => {
    const result = await runForJson(`
      import { createRequire } from 'node:module'
      import { readFileSync } from 'node:fs'
      const { forkAndRun } = createRequire('/')(${JSON.stringify(testAddonPath)})
      const reactor = new Reactor()
      const bell = new EventFd(reactor)
      const counts = []
      bell.on('event', (count) => { counts.push(Number(count)); if (counts.length === 2) bell.close() })
      bell.write(1n)
      await once(bell, 'event')
      const watched = () => readFileSync('/proc/self/fdinfo/' + reactor.fd, 'utf8').match(/tfd.*/g)
      const before = watched()
      bell.write(2n)
      const status = forkAndRun(() => { ${action} })
      const same = JSON.stringify(watched()) === JSON.stringify(before)
      await reactor.run()
      console.log(JSON.stringify({ status, same, counts }))`)
    expect(result).toMatchObject({ same: true, counts: [1, 2] })
    expect([0, SIGSEGV, SIGSEGV | CORE]).toContain((result as { status: number }).status)
  })
})

if (!existsSync(testAddonPath)) {
  test('fork() without exec', (context) => {
    context.skip(`the test addon is not built: ${testAddonPath}`)
  })
}
