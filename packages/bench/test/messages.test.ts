/** The ends of messages that are compared: packets come back as they were, datagrams arrive. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { cProgram } from '../src/c-program.js'
import { output } from '../src/child.js'
import { runLoad } from '../src/load.js'
import { processors } from '../src/machine.js'
import { missingPeer, modulePeer } from '../src/peers.js'
import { parseFigures } from '../src/report.js'
import { Server } from '../src/server.js'

assertNoLeakedFds()

const PEER = 'node-unix-socket'
const SECONDS = '0.05'
const MESSAGES = fileURLToPath(new URL('../dist/servers/messages.js', import.meta.url))
const isMissing = (how: string): boolean => how === PEER && modulePeer(PEER) === undefined
const end =
  (...role: string[]) =>
  (path: string): string[] => [process.execPath, MESSAGES, path, ...role]

test.for(['copy', 'borrow', PEER])('packets are echoed: %s', async (how, { skip }) => {
  if (isMissing(how)) return skip(missingPeer(how))
  await using server = await Server.start(end('echo', how))
  server.address = `seqpacket:${server.address}`
  // The load generator has compared what came back to each client, byte by byte, before it measured.
  const load = { clients: 5, bytes: 4096, pipeline: 1, seconds: Number(SECONDS) }
  for (const _again of [1, 2]) expect((await runLoad(server, load)).messagesPerSecond).toBeGreaterThan(0)
})

test.for(['ours', 'borrow', PEER])('datagrams are received: %s', async (how, { skip }) => {
  if (isMissing(how)) return skip(missingPeer(how))
  await using server = await Server.start(end('receive', how))
  const command = [cProgram('dgram'), 'send', server.address, '64', SECONDS, String(server.pid)]
  expect(parseFigures(await output(command), ['messagesPerSecond']).messagesPerSecond).toBeGreaterThan(0)
})

test.for(['ours', PEER])('datagrams are sent: %s', async (how, { skip }) => {
  if (isMissing(how)) return skip(missingPeer(how))
  await using server = await Server.start((path) => [cProgram('dgram'), 'receive', path])
  const command = end('send', how, '64', SECONDS)(server.address)
  expect(parseFigures(await output(command), ['messagesPerSecond']).messagesPerSecond).toBeGreaterThan(0)
})

test('requests through POSIX message queues are answered', async ({ skip }) => {
  if (!existsSync('/proc/sys/fs/mqueue')) return skip('this kernel has no POSIX message queues')
  const { server, load } = processors()
  const line = await output([cProgram('mq'), ...[SECONDS, server, load].map(String)])
  expect(parseFigures(line, ['requestsPerSecond']).requestsPerSecond).toBeGreaterThan(0)
})
