/**
 * One end of messages: `messages PATH echo copy|borrow` is an echo server of packets; `messages PATH receive ours|borrow|unix-dgram` takes
 * datagrams; `messages PATH send ours|unix-dgram SIZE SECONDS` sends them as fast as they are taken, and prints what `c/dgram.c` prints.
 */
import { Reactor } from '@fd-reactor/core'
import { UnixDatagram, UnixSeqpacketListener } from '@fd-reactor/fd-events'
import { createRequire } from 'node:module'

/** What is used of npm unix-dgram, which has no types. */
interface NpmSocket {
  on(event: 'message' | 'writable' | 'congestion', listener: () => void): void
  bind(path: string): void
  connect(path: string): void
  send(bytes: Buffer, callback: (error?: { code: unknown }) => void): void
}

const npm = (): NpmSocket => {
  const { createSocket } = createRequire(import.meta.url)('unix-dgram') as {
    createSocket: (type: string) => NpmSocket
  }
  return createSocket('unix_dgram')
}

const [path = '', what = '', how = '', size = '64', seconds = '1'] = process.argv.slice(2)

/** Counts between two moments, and ends with the figures. */
function counted(sent: () => number): void {
  setTimeout(
    () => {
      const before = { sent: sent(), ns: process.hrtime.bigint(), cpu: process.cpuUsage() }
      setTimeout(
        () => {
          const messages = sent() - before.sent
          const { user, system } = process.cpuUsage(before.cpu)
          const elapsed = Number(process.hrtime.bigint() - before.ns) / 1e9
          const figures = {
            messagesPerSecond: messages / elapsed,
            cpuNsPerMessage: ((user + system) * 1000) / messages,
          }
          process.stdout.write(JSON.stringify(figures), () => process.exit())
        },
        Number(seconds) * 1000,
      )
    },
    Number(seconds) * 250,
  )
}

function sendByNpm(): void {
  const socket = npm()
  socket.connect(path)
  const bytes = Buffer.alloc(Number(size))
  let sent = 0
  const send = (): void => {
    for (let count = 0; count < 32; count++) {
      const before = sent
      socket.send(bytes, (error) => {
        if (error === undefined) sent++
      })
      if (sent === before) return // congested: 'writable' comes
    }
    setImmediate(send)
  }
  socket.on('writable', send)
  counted(() => sent)
  send()
}

function sendByOurs(): void {
  const socket = UnixDatagram.connect(new Reactor(), path)
  const bytes = Buffer.alloc(Number(size))
  socket.on('drain', () => {
    while (socket.send(bytes));
  })
  counted(() => socket.stats.sent)
  while (socket.send(bytes));
}

if (what === 'send' && how === 'unix-dgram') {
  sendByNpm()
} else if (what === 'send') {
  sendByOurs()
} else if (what === 'receive' && how === 'unix-dgram') {
  const socket = npm()
  socket.on('message', () => undefined)
  socket.bind(path)
  console.log('ready')
} else if (what === 'receive') {
  const socket = UnixDatagram.bind(new Reactor(), path, { borrow: how === 'borrow' })
  socket.on('message', () => undefined)
  console.log('ready')
} else {
  const listener = UnixSeqpacketListener.listen(new Reactor(), path, {
    borrow: how === 'borrow',
    backlog: 4096,
  })
  listener.on('connection', (connection) => connection.on('message', (bytes) => connection.send(bytes)))
  console.log('ready')
}
