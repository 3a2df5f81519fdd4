/**
 * The addon, compiled once, in the other Node versions that are supported: it loads, works, and exits without a crash.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const script = `
import { Reactor } from '@fd-reactor/core'
import { EventFd, ms, SignalFd, TimerFd, UnixListener, UnixStream } from '@fd-reactor/fd-events'
const path = '/tmp/fd-reactor-node-' + process.pid + '.sock'
const reactor = new Reactor()
UnixListener.listen(reactor, path).on('connection', (stream) => stream.on('data', (bytes) => stream.write(bytes)))
const stream = await UnixStream.connect(reactor, path, { borrow: true })
const bell = new EventFd(reactor)
const signals = new SignalFd(reactor, ['SIGHUP'])
stream.on('data', () => bell.write(1n))
bell.on('event', () => process.kill(process.pid, 'SIGHUP'))
signals.on('SIGHUP', () => TimerFd.after(reactor, ms(1)).on('tick', () => reactor.stop(7)))
stream.write('hello')
process.exitCode = await reactor.run()
`

test.each(['22', '24'])('Node %s', { timeout: 120_000 }, (version) => {
  const npx = ['--yes', `node@${version}`]
  const probe = spawnSync('npx', [...npx, '--version'], { encoding: 'utf8' })
  expect(probe.stdout, probe.stderr).toMatch(new RegExp(`^v${version}\\.`))
  const cwd = join(import.meta.dirname, '..')
  const { status, stderr } = spawnSync('npx', [...npx, '--input-type=module', '-e', script], {
    cwd,
    encoding: 'utf8',
  })
  expect({ status, stderr: stderr.replace(/^npm .*\n/gm, '') }).toEqual({ status: 7, stderr: '' })
})
