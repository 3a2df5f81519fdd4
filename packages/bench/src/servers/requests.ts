/**
 * Requests and replies of 64 bytes, one at a time, with the same library at both ends.
 *
 *   requests ask ours|net|zeromq PATH SECONDS SERVER_PID [ZEROMQ_URL]
 *   requests serve PATH ZEROMQ_URL
 *
 * `serve` is zeromq's end, since the other two have servers of their own (`messages`, `net`). `ask` measures after a quarter of
 * SECONDS, and prints one line of JSON.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { Reactor } from '@fd-reactor/core'
import { UnixSeqpacket } from '@fd-reactor/fd-events'

/** What is used of npm zeromq, which is not among the package's dependencies. */
interface Zeromq {
  Reply: new () => ZeromqSocket & { bind(address: string): Promise<void> }
  Request: new () => ZeromqSocket & { connect(address: string): void }
}
interface ZeromqSocket {
  send(message: Buffer): Promise<void>
  receive(): Promise<Buffer[]>
}

/** Connects, and says how to send a request; each reply calls `answered`. */
type Asker = (path: string, answered: () => void, url: string) => Promise<() => void>

const BYTES = 64
const REQUEST = Buffer.alloc(BYTES, 7)

const loadZeromq = async (url: string): Promise<Zeromq> => (await import(url)) as Zeromq

const askers = new Map<string, Asker>([
  [
    'ours',
    async (path, answered) => {
      const socket = await UnixSeqpacket.connect(new Reactor(), path)
      socket.on('message', answered)
      return () => socket.send(REQUEST)
    },
  ],
  [
    'net',
    (path, answered) => {
      const socket = connect(path)
      let missing = BYTES
      socket.on('data', ({ length }) => {
        missing -= length
        if (missing > 0) return
        missing = BYTES
        answered()
      })
      return Promise.resolve(() => socket.write(REQUEST))
    },
  ],
  [
    'zeromq',
    async (path, answered, url) => {
      const { Request } = await loadZeromq(url)
      const socket = new Request()
      socket.connect(`ipc://${path}`)
      const ask = async (): Promise<void> => {
        await socket.send(REQUEST)
        await socket.receive()
        answered()
      }
      return () => void ask()
    },
  ],
])

const [role = '', ...rest] = process.argv.slice(2)
if (role === 'serve') await serve(rest[0] ?? '', rest[1] ?? '')
else await ask()

async function serve(path: string, url: string): Promise<void> {
  const { Reply } = await loadZeromq(url)
  const socket = new Reply()
  await socket.bind(`ipc://${path}`)
  console.log('ready')
  for (;;) {
    const [message] = await socket.receive()
    if (message !== undefined) await socket.send(message)
  }
}

async function ask(): Promise<void> {
  const [how = '', path = '', secondsText = '1', pid = '', url = ''] = rest
  const seconds = Number(secondsText)
  const connectTo = askers.get(how)
  if (connectTo === undefined) throw new Error(`unknown library ${how}`)
  const times: number[] = []
  let sentAt = 0
  let [begin, cpu] = [0, 0]
  const warm = performance.now() + seconds * 250
  const send = await connectTo(
    path,
    () => {
      const now = performance.now()
      if (begin > 0) times.push(now - sentAt)
      else if (now >= warm) [begin, cpu] = [now, cpuNs(pid)]
      if (begin > 0 && now >= begin + seconds * 1000 && times.length > 0) {
        return print(times, now - begin, cpuNs(pid) - cpu)
      }
      sentAt = performance.now()
      send()
    },
    url,
  )
  sentAt = performance.now()
  send()
}

function print(times: readonly number[], elapsedMs: number, serverCpuNs: number): void {
  const sorted = Float64Array.from(times).sort()
  const at = (share: number): number => (sorted[Math.floor((sorted.length - 1) * share)] ?? NaN) * 1e3
  const figures = {
    requestsPerSecond: (times.length / elapsedMs) * 1e3,
    serverCpuNs: serverCpuNs / times.length,
    p50Micros: at(0.5),
    p99Micros: at(0.99),
    p999Micros: at(0.999),
  }
  process.stdout.write(`${JSON.stringify(figures)}\n`, () => process.exit())
}

/** Processor time of all threads of a process. */
function cpuNs(pid: string): number {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => {
    const [ns = ''] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')
    return sum + Number(ns)
  }, 0)
}
