/**
 * Requests and replies over a Unix socket, one at a time: our packets, Node's `net`, and npm zeromq over `ipc:`.
 *
 * zeromq has a protocol of its own, which only its own client speaks. So each library is at both ends here, and the client is part
 * of what is measured. There is no bar.
 */
import { output } from '../child.js'
import { pinned, processors } from '../machine.js'
import { missingPeer, modulePeer } from '../peers.js'
import { formatSpread, parseFigures, ratios, spread, type Effort, type Report } from '../report.js'
import { eachRound, inTurn } from '../rounds.js'
import { nodeNet, Server, serverFile, type Candidate } from '../server.js'

const FIGURES = ['requestsPerSecond', 'serverCpuNs', 'p50Micros', 'p99Micros', 'p999Micros'] as const
type Figure = (typeof FIGURES)[number]

interface Library {
  name: string
  /** As `servers/requests.ts` calls it. */
  how: string
  candidate: Candidate
}

interface Sample extends Record<Figure, number> {
  round: number
  library: string
}

const OURS: Library = {
  name: 'ours, seqpacket',
  how: 'ours',
  candidate: (path) => [process.execPath, serverFile('messages'), path, 'echo', 'copy'],
}

export async function benchRequests({ rounds, seconds }: Effort): Promise<Report> {
  const url = modulePeer('zeromq')
  const libraries: Library[] = [OURS, { name: 'Node net', how: 'net', candidate: nodeNet }]
  if (url !== undefined) {
    const candidate: Candidate = (path) => [process.execPath, serverFile('requests'), 'serve', path, url]
    libraries.push({ name: 'zeromq ipc', how: 'zeromq', candidate })
  }

  const samples: Sample[] = []
  for (const round of eachRound(rounds)) {
    for (const { name, how, candidate } of inTurn(libraries, round)) {
      await using server = await Server.start(candidate)
      const client = [process.execPath, serverFile('requests'), 'ask', how, server.address]
      const command = [...client, String(seconds), String(server.pid), url ?? '']
      const line = await output(pinned(processors().load, command))
      samples.push({ round, library: name, ...parseFigures(line, FIGURES) })
    }
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
    title: `requests: request and reply of 64 bytes over a Unix socket, each library at both ends, ${rounds} rounds of ${seconds} s`,
    tables: [
      {
        caption: 'medians of the rounds; ratios are taken round by round, median (min–max)',
        rows: [['', 'k/s', 'ours, times as many', 'server CPU µs', 'p50 µs', 'p99 µs', 'p99.9 µs'], ...rows],
      },
    ],
    bars: [],
    missing: url === undefined ? [missingPeer('zeromq ipc')] : [],
    samples,
  }
}
