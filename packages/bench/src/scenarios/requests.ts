/**
 * Requests and replies between two processes, one at a time: our packets, Node's `net`, and npm zeromq over `ipc:`; packets and POSIX
 * message queues in C.
 *
 * zeromq has a protocol of its own, which only its own client speaks. So each library is at both ends here, and the client is part
 * of what is measured. There is no bar.
 */
import { existsSync } from 'node:fs'
import { cProgram } from '../c-program.js'
import { output } from '../child.js'
import { runLoad } from '../load.js'
import { pinned, processors } from '../machine.js'
import { missingPeer, modulePeer } from '../peers.js'
import { formatSpread, parseFigures, ratios, spread, type Effort, type Report } from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { nodeNet, Server, serverFile, type Candidate } from '../server.js'

const FIGURES = ['requestsPerSecond', 'serverCpuNs', 'p50Micros', 'p99Micros', 'p999Micros'] as const
type Figure = (typeof FIGURES)[number]
type Figures = Record<Figure, number>

interface Library {
  name: string
  measure: (seconds: number) => Promise<Figures>
}

interface Sample extends Figures {
  round: number
  library: string
}

/** `how` is what `servers/requests.ts` calls it. */
const node =
  (how: string, candidate: Candidate, url = ''): Library['measure'] =>
  async (seconds) => {
    await using server = await Server.start(candidate)
    const client = [process.execPath, serverFile('requests'), 'ask', how, server.address]
    const command = [...client, String(seconds), String(server.pid), url]
    return parseFigures(await output(pinned(processors().load, command)), FIGURES)
  }

const OURS: Library = {
  name: 'ours, seqpacket',
  measure: node('ours', (path) => [process.execPath, serverFile('messages'), path, 'echo', 'copy']),
}
const C: Library = {
  name: 'C epoll, seqpacket',
  measure: async (seconds) => {
    await using server = await Server.start((path) => [cProgram('echo-epoll'), `seqpacket:${path}`, 'block'])
    server.address = `seqpacket:${server.address}`
    const figures = await runLoad(server, { clients: 1, pipeline: 1, seconds })
    const { messagesPerSecond, serverCpuNsPerMessage, p50Micros, p99Micros, p999Micros } = figures
    const times = { p50Micros, p99Micros, p999Micros }
    return { requestsPerSecond: messagesPerSecond, serverCpuNs: serverCpuNsPerMessage, ...times }
  },
}
const QUEUES: Library = {
  name: 'C epoll, POSIX message queues',
  measure: async (seconds) => {
    const { server, load } = processors()
    return parseFigures(await output([cProgram('mq'), ...[seconds, server, load].map(String)]), FIGURES)
  },
}

export async function benchRequests({ rounds, seconds }: Effort): Promise<Report> {
  const { libraries, missing } = present()
  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const { name, measure } of inTurn(libraries, round))
      samples.push({ round, library: name, ...(await measure(seconds)) })
  }

  const series = ({ name }: Library, figure: Figure): number[] =>
    samples.filter((sample) => sample.library === name).map((sample) => sample[figure])
  const rows = libraries.map((library) => [
    library.name,
    (spread(series(library, 'requestsPerSecond')).median / 1e3).toFixed(1),
    formatSpread(ratios(series(OURS, 'requestsPerSecond'), series(library, 'requestsPerSecond'))),
    (spread(series(library, 'serverCpuNs')).median / 1e3).toFixed(1),
    ...(['p50Micros', 'p99Micros', 'p999Micros'] as const).map((figure) =>
      spread(series(library, figure)).median.toFixed(1),
    ),
  ])
  return {
    title: `requests: request and reply of 64 bytes between two processes, each library at both ends, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'medians of the rounds; ratios are taken round by round, median (min–max)',
        rows: [['', 'k/s', 'ours, times as many', 'server CPU µs', 'p50 µs', 'p99 µs', 'p99.9 µs'], ...rows],
      },
    ],
    bars: [],
    missing,
    samples,
  }
}

/** Everybody who can run here, and who cannot. */
function present(): { libraries: Library[]; missing: string[] } {
  const libraries = [OURS, { name: 'Node net', measure: node('net', nodeNet) }]
  const missing: string[] = []
  const url = modulePeer('zeromq')
  if (url === undefined) missing.push(missingPeer('zeromq ipc'))
  else {
    const candidate: Candidate = (path) => [process.execPath, serverFile('requests'), 'serve', path, url]
    libraries.push({ name: 'zeromq ipc', measure: node('zeromq', candidate, url) })
  }
  libraries.push(C)
  if (existsSync('/proc/sys/fs/mqueue')) libraries.push(QUEUES)
  else missing.push(`${QUEUES.name}: this kernel is built without them`)
  return { libraries, missing }
}
