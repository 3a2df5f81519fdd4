/**
 * Messages of 64 bytes by what Node has, and by a Unix socket: `node-messages ipc|port|unix COUNT PATH PROCESSOR`.
 * A child on that processor, or a worker, sends.
 */
import { spawn } from 'node:child_process'
import process from 'node:process'
import { Worker } from 'node:worker_threads'
import { once, Reactor } from '@fd-reactor/core'
import { UnixSeqpacket, UnixSeqpacketListener } from '@fd-reactor/fd-events'
import { pinned } from '../machine.js'

const [kind = '', countText = '0', path = '', processor = '0'] = process.argv.slice(2)
const count = Number(countText)
const BYTES = 64

if (kind.startsWith('send-')) await send()
else await receive()

async function send(): Promise<void> {
  if (kind === 'send-ipc') {
    const text = 'x'.repeat(BYTES)
    // Without waiting now and then, Node would keep all of them in memory; without waiting at the end, disconnect() would lose some.
    for (let sent = 1; sent <= count; sent++) {
      if (sent % 1000 !== 0 && sent !== count) process.send?.(text)
      else await new Promise((resolve) => process.send?.(text, undefined, undefined, resolve))
    }
    process.disconnect()
  } else {
    const reactor = new Reactor()
    const socket = await UnixSeqpacket.connect(reactor, path)
    const message = Buffer.alloc(BYTES, 7)
    for (let sent = 0; sent < count; sent++) if (!socket.send(message)) await once(socket, 'drain')
    socket.on('message', () => undefined) // who does not listen does not hear of the end either
    await once(socket, 'end')
    reactor.close()
  }
}

async function receive(): Promise<void> {
  let seen = 0
  let begin = 0
  let done: () => void = () => undefined
  const finished = new Promise<void>((resolve) => (done = resolve))
  const onMessage = (): void => {
    if (seen++ === 0) begin = performance.now()
    if (seen === count) done()
  }
  const child = (...args: string[]): string[] =>
    pinned(Number(processor), [process.execPath, import.meta.filename, ...args])
  if (kind === 'ipc') {
    const [file = '', ...args] = child('send-ipc', String(count))
    spawn(file, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }).on('message', onMessage)
  } else if (kind === 'port') {
    const source = `const { parentPort, workerData: count } = require('node:worker_threads')
      const bytes = new Uint8Array(${BYTES})
      let sent = 0
      const some = () => {
        for (let i = 0; i < 1000 && sent < count; i++, sent++) parentPort.postMessage(bytes)
        if (sent < count) setImmediate(some)
      }
      some()`
    new Worker(source, { eval: true, workerData: count }).on('message', onMessage)
  } else {
    const reactor = new Reactor()
    const listener = UnixSeqpacketListener.listen(reactor, path, { borrow: true })
    listener.on('connection', (connection) => connection.on('message', onMessage))
    const [file = '', ...args] = child('send-unix', String(count), path)
    spawn(file, args, { stdio: ['ignore', 'inherit', 'inherit'] })
    await finished
    reactor.close()
  }
  await finished
  console.log(JSON.stringify({ messagesPerSecond: ((count - 1) / (performance.now() - begin)) * 1000 }))
  process.exit()
}
