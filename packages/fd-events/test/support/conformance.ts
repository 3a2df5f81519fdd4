/**
 * What every source must do, whatever it is and wherever its reactor lives: one suite, run by each source in a few lines.
 */
import { isMainThread } from 'node:worker_threads'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Reactor, Source, SourceEvents, SourceOptions, WakeupName } from '@fd-reactor/core'
import { describe, expect, test } from 'vitest'
import { runScript } from '../../../core/test/support/child.js'
import { countFds, linkOf } from '../../../core/test/support/fds.js'
import { openReactor, wakeups } from '../../../core/test/support/reactors.js'
import { turn, until, within } from '../../../core/test/support/wait.js'

/** How the suite handles one kind of source. */
export interface Subject<S> {
  /** Makes one that waits for its event. */
  make(reactor: Reactor, options?: SourceOptions): S | Promise<S>
  /** Makes its event happen, now. */
  fire(source: S): void
  /** Listens to its event. */
  listen(source: S, heard: () => void): void
  /** Stops listening to its event. */
  forget(source: S): void
  /** Waits for its event. */
  next(source: S, signal: AbortSignal): Promise<unknown>
  /** Closes what the suite holds of the far end. */
  release?(source: S): void | Promise<void>
  /** Goes through its events. */
  iterate(source: S): AsyncIterable<unknown>
  /** The same as source text: the statements that make `source` on `reactor`, what fires it, and the name of the event. */
  script: { make: string; fire: string; event: string }
}

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** Keeps this thread from running anything while the kernel finishes what was fired. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

/** Runs the suite for one kind of source, in each home that a reactor can have in this thread. */
export function describeSource<S extends Source<SourceEvents>>(name: string, subject: Subject<S>): void {
  describe.each(wakeups)(`${name}, %s wakeup`, (wakeup) => {
    const open = (): Reactor => openReactor({ wakeup })
    common(subject, open)
    if (isMainThread && wakeup !== 'manual') ownProcess(subject, wakeup)
  })
}

function common<S extends Source<SourceEvents>>(subject: Subject<S>, open: () => Reactor): void {
  /** Makes a source with a listener that counts. */
  const heardBy = async (
    reactor: Reactor,
    options?: SourceOptions,
  ): Promise<{ source: S; count: () => number }> => {
    const source = await subject.make(reactor, options)
    let count = 0
    subject.listen(source, () => count++)
    return { source, count: () => count }
  }
  /** A few turns, for what must not come. */
  const quiet = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) {
      block(1)
      await turn()
    }
  }

  test('is registered when it is made, and watched when somebody listens', async () => {
    const reactor = open()
    const source = await subject.make(reactor)
    expect([source.closed, source.paused, source.reactor]).toEqual([false, false, reactor])
    expect(linkOf(source.fd)).toBeDefined()
    expect(source.stats).toMatchObject({
      label: source.label,
      fd: source.fd,
      priority: 'normal',
      interest: 0,
      events: 0,
    })
    expect(reactor.sources().map(({ label }) => label)).toContain(source.label)
    subject.listen(source, () => undefined)
    expect(source.stats.interest).not.toBe(0)
    subject.forget(source)
    expect(source.stats.interest).toBe(0)
  })

  test('takes priority, ref and label', async () => {
    const reactor = open()
    const source = await subject.make(reactor, { priority: 'low', ref: false, label: 'Named' })
    expect(source.stats).toMatchObject({ priority: 'low', ref: false })
    expect(source.label).toMatch(/^Named \d+$/)
  })

  test('tells its event each time, and counts', async () => {
    const { source, count } = await heardBy(open())
    for (let i = 1; i <= 5; i++) {
      subject.fire(source)
      await until(() => count() === i, `event ${i}`)
    }
    expect(source.stats.events).toBeGreaterThanOrEqual(5)
  })

  test('tells nothing while it is paused, and what happened meanwhile when it goes on', async () => {
    const { source, count } = await heardBy(open())
    source.pause()
    subject.fire(source)
    await quiet()
    expect([count(), source.stats.interest, source.paused]).toEqual([0, 0, true])
    source.resume()
    await until(() => count() > 0)
  })

  test('what happens before anybody listens is told to the first listener', async () => {
    const source = await subject.make(open())
    subject.fire(source)
    await quiet()
    let heard = 0
    subject.listen(source, () => heard++)
    await until(() => heard > 0)
  })

  test('closes in its own handler', async () => {
    const reactor = open()
    const source = await subject.make(reactor)
    let heard = 0
    let closes = 0
    source.on('close', () => closes++)
    subject.listen(source, () => {
      heard++
      subject.fire(source)
      source.close()
    })
    subject.fire(source)
    await until(() => heard > 0)
    await quiet()
    expect([heard, closes, source.closed]).toEqual([1, 1, true])
  })

  test("closes in another's handler, with its event in the same batch", async () => {
    const reactor = open()
    const sources = await Promise.all([subject.make(reactor), subject.make(reactor), subject.make(reactor)])
    let heard = 0
    for (const source of sources) {
      subject.listen(source, () => {
        heard++
        for (const other of sources) if (other !== source) other.close()
      })
    }
    for (const source of sources) subject.fire(source)
    block(5)
    await until(() => heard > 0)
    await quiet()
    expect(heard).toBe(1)
    expect(sources.filter(({ closed }) => closed)).toHaveLength(2)
  })

  test('closes twice, and by using', async () => {
    const reactor = open()
    const source = await subject.make(reactor)
    let closes = 0
    source.on('close', () => closes++)
    source.close()
    source.close()
    source[Symbol.dispose]()
    expect(closes).toBe(1)
    expect(reactor.sources().map(({ label }) => label)).not.toContain(source.label)
  })

  test('use after close throws ERR_CLOSED, or does nothing', async () => {
    const { source, count } = await heardBy(open())
    source.close()
    expect(() => source.fd).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    await expect(subject.next(source, AbortSignal.timeout(1000))).rejects.toMatchObject({
      code: 'ERR_CLOSED',
    })
    source.pause().resume().ref().unref()
    subject.forget(source)
    subject.listen(source, () => expect.unreachable('it is closed'))
    await quiet()
    expect(count()).toBe(0)
  })

  test('is refused by a closed reactor', async () => {
    const reactor = open()
    reactor.close()
    await expect((async () => subject.make(reactor))()).rejects.toMatchObject({ code: 'ERR_CLOSED' })
  })

  test('keeps run() going while it is referenced', async () => {
    const reactor = open()
    const { source, count } = await heardBy(reactor)
    let settled = false
    const running = reactor.run({ keepOpen: true }).then(() => (settled = true))
    subject.fire(source)
    await until(() => count() > 0)
    await quiet()
    expect(settled).toBe(false)
    source.unref()
    await within(running)
    const again = reactor.run({ keepOpen: true })
    source.ref()
    source.close()
    await within(again)
  })

  test('is told in the order of its priority', async () => {
    const reactor = open()
    const order: string[] = []
    const sources: S[] = []
    for (const priority of ['low', 'normal', 'high'] as const) {
      const source = await subject.make(reactor, { priority })
      subject.listen(source, () => order.push(priority))
      sources.push(source)
    }
    for (const source of sources) subject.fire(source)
    block(5)
    await until(() => order.length >= 3)
    expect(order).toEqual(['high', 'normal', 'low'])
  })

  test('ends with its abort signal', async () => {
    const reactor = open()
    const abort = new AbortController()
    const source = await subject.make(reactor, { signal: abort.signal })
    let closes = 0
    source.on('close', () => closes++)
    abort.abort()
    expect([closes, source.closed]).toEqual([1, true])
    await expect((async () => subject.make(reactor, { signal: abort.signal }))()).rejects.toMatchObject({
      name: 'AbortError',
    })
  })

  test('can be waited for once, and iterated', async () => {
    const source = await subject.make(open())
    const waiting = subject.next(source, AbortSignal.timeout(5000))
    subject.fire(source)
    await waiting
    expect(source.stats.interest).toBe(0)
    await expect(subject.next(source, AbortSignal.abort())).rejects.toMatchObject({ name: 'AbortError' })
    subject.fire(source)
    for await (const value of subject.iterate(source)) {
      expect(value).toBeDefined()
      break
    }
    expect(source.stats.interest).toBe(0)
    const iterating = (async () => {
      for await (const value of subject.iterate(source)) expect(value).toBeDefined()
    })()
    await turn()
    source.close()
    await within(iterating)
  })

  test('is held by its reactor while it is open, and collected after', async () => {
    const reactor = open()
    let heard = 0
    const { fire, close, held } = await (async () => {
      const source = await subject.make(reactor)
      subject.listen(source, () => heard++)
      const held = new WeakRef(source)
      const found = (): S => held.deref() ?? expect.unreachable('an open source was collected')
      return { held, fire: () => subject.fire(found()), close: () => found().close() }
    })()
    for (let i = 0; i < 5; i++) {
      await turn()
      collect()
    }
    fire()
    await until(() => heard === 1)
    close()
    await until(() => {
      collect()
      return held.deref() === undefined
    }, 'the collection of a closed source')
  })

  test('gives every descriptor back', async () => {
    const use = async (): Promise<void> => {
      const reactor = open()
      const { source, count } = await heardBy(reactor)
      const other = await subject.make(reactor)
      subject.fire(source)
      await until(() => count() > 0)
      other.close()
      reactor.close()
      expect(source.closed).toBe(true)
      await subject.release?.(source)
      await subject.release?.(other)
    }
    await use() // what is opened at the first use, and kept, does not count
    const before = countFds()
    await use()
    expect(countFds()).toEqual(before)
  })
}

function ownProcess<S>({ script: { make, fire, event } }: Subject<S>, wakeup: WakeupName): void {
  const run = async (script: string): ReturnType<typeof runScript> =>
    runScript(`const reactor = new Reactor({ wakeup: '${wakeup}' })\n${make}\n${script}`)

  test('keeps the process alive while it is referenced', async () => {
    const result = await run(`
      source.on('${event}', (value) => { console.log('heard'); value?.close?.(); source.close() })
      setTimeout(() => { ${fire} }, 50).unref()`)
    expect(result).toEqual({ code: 0, signal: null, stdout: 'heard\n', stderr: '' })
  })

  test('lets the process end when it is not', async () => {
    const result = await run(`
      source.on('${event}', () => console.log('heard')).unref()
      setTimeout(() => { console.log('still there'); process.exit(1) }, 5000).unref()`)
    expect(result).toEqual({ code: 0, signal: null, stdout: '', stderr: '' })
  })
}
