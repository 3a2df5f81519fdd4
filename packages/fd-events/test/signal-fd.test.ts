/**
 * Plays every scenario of fixtures/signal-*.mjs in a process of its own, on the built packages.
 */
import { Reactor } from '@fd-reactor/core'
import { SignalFd, type SignalFdEvents, type SignalInfo, type SignalName } from '@fd-reactor/fd-events'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { runForJson, runScript } from '../../core/test/support/child.js'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'

assertNoLeakedFds()

const fixture = (name: string): string => new URL(`fixtures/signal-${name}.mjs`, import.meta.url).href

async function describeScenarios(file: string): Promise<void> {
  const url = fixture(file)
  const listed = await runForJson(
    `const { scenarios } = await import('${url}'); console.log(JSON.stringify(Object.keys(scenarios)))`,
    { bare: true },
  )
  describe(file, () => {
    for (const name of listed as string[]) {
      test(name, { timeout: 60_000 }, async () => {
        const script = `
          const { scenarios } = await import('${url}')
          const { play } = await import('${fixture('kit')}')
          await play(scenarios, ${JSON.stringify(name)})`
        const result = await runScript(script, { bare: true, execArgv: ['--expose-gc'], timeoutMs: 50_000 })
        expect(result).toEqual({ code: 0, signal: null, stdout: 'done', stderr: '' })
      })
    }
  })
}

await describeScenarios('delivery')
await describeScenarios('sharing')
await describeScenarios('owner')
await describeScenarios('stress')

describe('what cannot be asked for', () => {
  /** Nothing is masked before everything is checked, so this needs no process of its own. */
  function refusal(signals: unknown, options = {}): unknown {
    using reactor = new Reactor()
    try {
      Reflect.construct(SignalFd, [reactor, signals, options])
    } catch (error) {
      expect(reactor.sources()).toEqual([])
      return error
    }
    throw new Error('it was made')
  }

  test.each([
    ['SIGKILL', 'the kernel lets nobody block it'],
    ['SIGSTOP', 'the kernel lets nobody block it'],
    ...['SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGFPE', 'SIGTRAP', 'SIGSYS'].map((name) => [
      name,
      'for a fault of the thread itself',
    ]),
    ['SIGCHLD', 'child_process would not hear any more'],
  ])('%s, with the reason', (name, reason) => {
    const error = refusal(['SIGTERM', name])
    expect(error).toBeInstanceOf(TypeError)
    expect(error).toMatchObject({ code: 'ERR_REFUSED_SIGNAL', message: expect.stringContaining(reason) })
    expect(error).toMatchObject({ message: expect.stringContaining(name) })
  })

  test.each([
    ['SIGTEM', 'SIGTERM'],
    ['sighup', 'SIGHUP'],
    ['TERM', 'SIGTERM'],
    ['SIGRTMIN+31', 'SIGRTMIN+1'],
    ['SIGRTMIN-1', 'SIGRTMIN+1'], // libc's own
    ['SIGRTMIN+0', 'SIGRTMIN+1'],
    [15, 'SIGIO'],
  ])('a signal that does not exist: %s', (name, nearest) => {
    const error = refusal([name])
    expect(error).toBeInstanceOf(TypeError)
    expect(error).toMatchObject({
      code: 'ERR_UNKNOWN_SIGNAL',
      message: `There is no signal '${name}'; did you mean '${nearest}'?`,
    })
  })

  test('none, one twice, one by two names', () => {
    for (const signals of [[], 'SIGTERM', undefined]) {
      expect(refusal(signals)).toMatchObject({ name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
    }
    expect(refusal(['SIGTERM', 'SIGTERM'])).toMatchObject({ code: 'ERR_REPEATED_SIGNAL' })
    expect(refusal(['SIGRTMIN+2', 'SIGRTMAX-28'])).toMatchObject({
      code: 'ERR_REPEATED_SIGNAL',
      message: "'SIGRTMAX-28' is the same signal as 'SIGRTMIN+2'",
    })
    expect(refusal(['SIGIO', 'SIGPOLL'])).toMatchObject({ code: 'ERR_REPEATED_SIGNAL' })
  })

  test('an option that does not exist', () => {
    expect(refusal(['SIGCHLD'], { alowChild: true })).toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      message: "SignalFd has no option 'alowChild'; did you mean 'allowChild'?",
    })
  })
})

test('SIGUSR1 and SIGPROF are given with a warning', async () => {
  const { code, stderr } = await runScript(
    `const { Reactor, SignalFd } = await import('${fixture('kit')}')
    const reactor = new Reactor()
    new SignalFd(reactor, ['SIGUSR1', 'SIGPROF', 'SIGTERM'])
    reactor.close()`,
    { bare: true },
  )
  expect(code).toBe(0)
  expect(stderr.match(/FD_REACTOR_SIGNAL\] .*/g)).toEqual([
    "FD_REACTOR_SIGNAL] Warning: While a SignalFd has SIGUSR1, it does not start Node's inspector",
    "FD_REACTOR_SIGNAL] Warning: While a SignalFd has SIGPROF, V8's CPU profiler takes no samples",
  ])
})

test('events are typed by the names that were asked for', () => {
  type Events = SignalFdEvents<'SIGTERM' | 'SIGRTMIN+2'>
  expectTypeOf<Events['SIGTERM']>().toEqualTypeOf<[info: SignalInfo<'SIGTERM'>]>()
  expectTypeOf<Events['signal']>().toEqualTypeOf<[info: SignalInfo<'SIGTERM' | 'SIGRTMIN+2'>]>()
  expectTypeOf<SignalName>().not.toExtend<'SIGRTMIN+2'>()
  // Never called: only its types matter.
  const typed = (reactor: Reactor): void => {
    const signals = new SignalFd(reactor, ['SIGTERM', 'SIGRTMIN+2'])
    expectTypeOf(signals).toEqualTypeOf<SignalFd<'SIGTERM' | 'SIGRTMIN+2'>>()
    expectTypeOf(signals.signals).toEqualTypeOf<('SIGTERM' | 'SIGRTMIN+2')[]>()
    signals.on('SIGRTMIN+2', ({ signal, value }) => {
      expectTypeOf(signal).toEqualTypeOf<'SIGRTMIN+2'>()
      expectTypeOf(value).toEqualTypeOf<number>()
    })
    // @ts-expect-error it was not asked for
    signals.on('SIGHUP', () => undefined)
    // @ts-expect-error there is no such signal
    new SignalFd(reactor, ['SIGRTMIN+31'])
  }
  expect(typed).toBeTypeOf('function')
})
