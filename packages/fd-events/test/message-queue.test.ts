/**
 * Whatever is sent to whomever, in whatever order receivers take it: every send ends once, what is said to be sent arrives, once and
 * in order, and nothing is left open.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Reactor } from '@fd-reactor/core'
import { UnixDatagram, type OnCongestion } from '@fd-reactor/fd-events'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { turn, until } from '../../core/test/support/wait.js'
import { abstractName, devNull, openNulls, Outcomes } from './message-helpers.js'

assertNoLeakedFds()

const seed = Number(process.env['FD_REACTOR_SEED'] ?? 20_261_121)
const RECEIVERS = 3

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      send: fc.nat(RECEIVERS - 1),
      size: fc.nat(300),
      fds: fc.constantFrom(0, 0, 0, 1, 2),
      times: fc.integer({ min: 1, max: 12 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ listen: fc.nat(RECEIVERS - 1), turns: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ silence: fc.nat(RECEIVERS - 1) }) },
  { weight: 2, arbitrary: fc.record({ turns: fc.nat(4) }) },
  { weight: 1, arbitrary: fc.record({ die: fc.nat(RECEIVERS - 1) }) },
  { weight: 1, arbitrary: fc.record({ together: fc.array(fc.nat(RECEIVERS - 1), { maxLength: 100 }) }) },
)

test.each<OnCongestion>(['wait', 'drop-new', 'drop-old', 'error'])(
  "with '%s' every send ends once, and receivers get what was sent to them, in order",
  { timeout: 30_000 },
  async (onCongestion) => {
    const file = devNull()
    const before = openNulls()
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 40 }),
        fc.nat(6),
        fc.boolean(),
        async (steps, queueLimit, connected) => {
          using reactor = new Reactor()
          const heard = Array.from({ length: RECEIVERS }, (): string[] => [])
          const receivers = heard.map((list) => {
            const receiver = UnixDatagram.bind(reactor, abstractName(), { maxFds: 2 })
            receiver.on('message', (bytes, { fds }) => {
              const text = String(bytes)
              expect(fds).toHaveLength(Number(text.split(' ')[1]))
              for (const fd of fds) fd.close()
              list.push(text.split(' ')[0] ?? '')
            })
            return receiver.pause()
          })
          const addresses = receivers.map(({ address = '' }) => address)
          const open = connected
            ? undefined
            : UnixDatagram.open(reactor, { onCongestion, queueLimit, highWaterMark: 1000 })
          const senders = addresses.map(
            (address) =>
              open ??
              UnixDatagram.connect(reactor, address, { onCongestion, queueLimit, highWaterMark: 1000 }),
          )
          const outcomes = new Outcomes()
          const sentTo: number[] = []
          const send = (index: number, size: number, fds: number): void => {
            const text = `${sentTo.length} ${fds} `.padEnd(size, 'x')
            const options = { fds: Array.from({ length: fds }, () => file) }
            const to = open === undefined ? {} : { to: addresses[index] ?? '' }
            sentTo.push(index)
            senders[index]?.send(text, { ...options, ...to }, outcomes.next())
          }
          const dead = new Set<number>()
          for (const each of steps) {
            if ('send' in each) for (let n = 0; n < each.times; n++) send(each.send, each.size, each.fds)
            else if ('listen' in each) receivers[each.listen]?.resume()
            else if ('silence' in each) receivers[each.silence]?.pause()
            else if ('together' in each) {
              reactor.defer(() => {
                for (const index of each.together) send(index, 10, 0)
              })
              await turn()
            } else if ('die' in each) {
              receivers[each.die]?.close()
              dead.add(each.die)
            }
            if ('turns' in each) for (let n = 0; n < each.turns; n++) await turn()
          }
          for (const receiver of receivers) receiver.resume()
          await until(() => outcomes.count('waiting') === 0, 'the end of every send')
          await until(
            () =>
              receivers.every(
                (receiver, index) => dead.has(index) || heard[index]?.length === arrived(index).length,
              ),
            'what was sent',
          )
          function arrived(index: number): string[] {
            return sentTo.flatMap((to, n) => (to === index && outcomes.list[n] === 'sent' ? [String(n)] : []))
          }
          for (const [index, list] of heard.entries()) {
            const expected = arrived(index)
            expect(list).toEqual(dead.has(index) ? expected.slice(0, list.length) : expected)
          }
          const known = new Set(['sent', 'dropped', 'ENOBUFS', 'EAGAIN', 'ECONNREFUSED'])
          expect(outcomes.words.filter((word) => !known.has(word))).toEqual([])
          for (const sender of senders) expect(sender.stats).toMatchObject({ queued: 0 })
          expect(senders.map(({ writableLength }) => writableLength)).toEqual(senders.map(() => 0))
        },
      ),
      { seed, numRuns: Number(process.env['FD_REACTOR_RUNS'] ?? 40) },
    )
    expect(openNulls()).toBe(before)
  },
)
