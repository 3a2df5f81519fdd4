/**
 * One end of messages. `messages PATH echo copy|borrow|node-unix-socket` is an echo server of packets;
 * `messages PATH receive ours|borrow|unix-dgram|node-unix-socket` takes datagrams; `messages PATH send ours|unix-dgram|node-unix-socket SIZE SECONDS`
 * sends them as fast as they are taken, and prints what `c/dgram.c` prints.
 */
import { Reactor } from '@fd-reactor/core'
import { UnixDatagram, UnixSeqpacketListener } from '@fd-reactor/fd-events'
import { createRequire } from 'node:module'
import { modulePeer } from '../peers.js'

/** What is used of npm unix-dgram, which has no types. */
interface UnixDgram {
  on(event: 'message' | 'writable' | 'congestion', listener: () => void): void
  bind(path: string): void
  connect(path: string): void
  send(bytes: Buffer, callback: (error?: { code: unknown }) => void): void
}

const unixDgram = (): UnixDgram => {
  const { createSocket } = createRequire(import.meta.url)('unix-dgram') as {
    createSocket: (type: string) => UnixDgram
  }
  return createSocket('unix_dgram')
}

/** What is used of npm node-unix-socket, which is not among the package's dependencies. */
interface NodeUnixSocket {
  DgramSocket: new () => {
    on(event: 'data', listener: () => void): void
    bind(path: string): void
    sendTo(bytes: Buffer, offset: number, length: number, path: string, sent: (error?: Error) => void): void
  }
  SeqpacketServer: new () => {
    on(event: 'connection', listener: (connection: Packets) => void): void
    listen(path: string, backlog: number): void
  }
}
interface Packets {
  on(event: 'data' | 'end', listener: (bytes: Buffer) => void): void
  write(bytes: Buffer): void
  end(): void
}

const nodeUnixSocket = async (): Promise<NodeUnixSocket> =>
  (await import(modulePeer('node-unix-socket') ?? 'node-unix-socket')) as NodeUnixSocket

/** What each library is used by. */
type Programs = Readonly<Record<string, () => void | Promise<void>>>

const BATCH = 32
const BACKLOG = 4096
const [path = '', what = '', how = '', size = '64', seconds = '1'] = process.argv.slice(2)
const bytes = Buffer.alloc(Number(size))

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

const senders: Programs = {
  ours: () => {
    const socket = UnixDatagram.connect(new Reactor(), path)
    const send = (): void => {
      while (socket.send(bytes));
    }
    socket.on('drain', send)
    counted(() => socket.stats.sent)
    send()
  },
  'unix-dgram': () => {
    const socket = unixDgram()
    socket.connect(path)
    let sent = 0
    const send = (): void => {
      for (let count = 0; count < BATCH; count++) {
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
  },
  // It queues what finds no room, without a limit: the next batch waits until the last one has left.
  'node-unix-socket': async () => {
    const socket = new (await nodeUnixSocket()).DgramSocket()
    let [sent, waiting] = [0, 0]
    const left = (error?: Error): void => {
      if (error instanceof Error) throw error
      sent++
      if (--waiting === 0) setImmediate(send)
    }
    const send = (): void => {
      waiting = BATCH
      for (let count = 0; count < BATCH; count++) socket.sendTo(bytes, 0, bytes.length, path, left)
    }
    counted(() => sent)
    send()
  },
}

const receivers: Programs = {
  ours: () => receive(false),
  borrow: () => receive(true),
  'unix-dgram': () => {
    const socket = unixDgram()
    socket.on('message', () => undefined)
    socket.bind(path)
  },
  'node-unix-socket': async () => {
    const socket = new (await nodeUnixSocket()).DgramSocket()
    socket.on('data', () => undefined)
    socket.bind(path)
  },
}

function receive(borrow: boolean): void {
  const socket = UnixDatagram.bind(new Reactor(), path, { borrow })
  socket.on('message', () => undefined)
}

const echoes: Programs = {
  copy: () => echo(false),
  borrow: () => echo(true),
  'node-unix-socket': async () => {
    const server = new (await nodeUnixSocket()).SeqpacketServer()
    server.on('connection', (connection) => {
      connection.on('data', (packet) => connection.write(packet))
      connection.on('end', () => connection.end())
    })
    server.listen(path, BACKLOG)
  },
}

function echo(borrow: boolean): void {
  const listener = UnixSeqpacketListener.listen(new Reactor(), path, { borrow, backlog: BACKLOG })
  listener.on('connection', (connection) => connection.on('message', (packet) => connection.send(packet)))
}

const programs = new Map([
  ['send', senders],
  ['receive', receivers],
  ['echo', echoes],
])
const begin = programs.get(what)?.[how]
if (begin === undefined) throw new Error(`messages: no ${what} ${how}`)
await begin()
if (what !== 'send') console.log('ready')
