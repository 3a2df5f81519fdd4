/**
 * An echo server that says what its connections cost once COUNT of them are open: `hold PATH ours|net COUNT`,
 * under `node --expose-gc`.
 */
import { createServer } from 'node:net'
import { Reactor } from '@fd-reactor/core'
import { UnixListener } from '@fd-reactor/fd-events'

const [path = '', kind = '', count = '0'] = process.argv.slice(2)
const backlog = 4096
const collect = globalThis.gc
if (collect === undefined) throw new Error('run with --expose-gc')

let open = 0
let begin = { ns: 0n, cpu: process.cpuUsage(), memory: process.memoryUsage() }

function opened(): void {
  if (open === 0) begin = { ...begin, ns: process.hrtime.bigint(), cpu: process.cpuUsage() }
  if (++open < Number(count)) return
  const wallNs = Number(process.hrtime.bigint() - begin.ns)
  const { user, system } = process.cpuUsage(begin.cpu)
  setImmediate(() => {
    collect?.()
    const { rss, heapUsed } = process.memoryUsage()
    const per = (value: number): number => value / open
    console.log(
      JSON.stringify({
        rssBytes: per(rss - begin.memory.rss),
        heapBytes: per(heapUsed - begin.memory.heapUsed),
        acceptMicros: per(wallNs) / 1e3,
        acceptCpuMicros: per(user + system),
      }),
    )
  })
}

function ready(): void {
  collect?.()
  begin = { ...begin, memory: process.memoryUsage() }
  console.log('ready')
}

if (kind === 'ours') {
  const reactor = new Reactor()
  UnixListener.listen(reactor, path, { backlog }).on('connection', (stream) => {
    stream.on('data', (bytes) => stream.write(bytes))
    opened()
  })
  ready()
} else {
  const server = createServer((socket) => {
    socket.on('data', (bytes) => socket.write(bytes))
    opened()
  })
  server.listen({ path, backlog }, ready)
}
