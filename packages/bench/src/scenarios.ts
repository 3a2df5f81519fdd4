/** All scenarios: what `npm run bench -- NAME` can run, in the order in which `all` does. */
import { benchCell } from './scenarios/cell.js'
import { benchChannel } from './scenarios/channel.js'
import { benchConnections } from './scenarios/connections.js'
import { benchDgram } from './scenarios/dgram.js'
import { benchDispatch } from './scenarios/dispatch.js'
import { benchEcho } from './scenarios/echo.js'
import { benchGc } from './scenarios/gc.js'
import { benchInstructions } from './scenarios/instructions.js'
import { benchMapped } from './scenarios/mapped.js'
import { benchPriority } from './scenarios/priority.js'
import type { Effort, Report } from './report.js'
import { benchRequests } from './scenarios/requests.js'
import { benchRtt } from './scenarios/rtt.js'
import { benchScale } from './scenarios/scale.js'
import { benchSendFile } from './scenarios/sendfile.js'
import { benchSeqpacket } from './scenarios/seqpacket.js'
import { benchShm } from './scenarios/shm.js'
import { benchSignal } from './scenarios/signal.js'
import { benchTimer } from './scenarios/timer.js'
import { benchStartup } from './scenarios/startup.js'
import { benchUdsVsTcp } from './scenarios/uds-vs-tcp.js'

/** One program of measurements. */
export interface Scenario {
  name: string
  description: string
  run: (effort: Effort) => Promise<Report>
  /** Its ratios are steady in short runs on a busy machine, so `bench check` looks at them. */
  steady?: true
}

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'echo',
    description: 'echo servers on a Unix socket: C, libuv, libevent, libev, Node net, Bun, Deno, ours',
    run: benchEcho,
    steady: true,
  },
  { name: 'rtt', description: 'round trips of one client, both ends asleep or polling', run: benchRtt },
  {
    name: 'requests',
    description: 'request and reply, one library at both ends: ours, Node net, npm zeromq, C, POSIX queues',
    run: benchRequests,
  },
  {
    name: 'dispatch',
    description: '200 ready eventfds per batch: ours and npm epoll',
    run: benchDispatch,
    steady: true,
  },
  {
    name: 'instructions',
    description: 'one event to an empty handler, counted by valgrind',
    run: benchInstructions,
  },
  {
    name: 'scale',
    description: '10 active descriptors beside up to 19,000 idle ones',
    run: benchScale,
  },
  { name: 'gc', description: 'what an echoed message leaves for the garbage collector', run: benchGc },
  { name: 'startup', description: 'from exec to the first event, and install size', run: benchStartup },
  {
    name: 'timer',
    description: 'lateness and drift of timers: C, ours, Node, nanotimer, cyclictest',
    run: benchTimer,
  },
  {
    name: 'signal',
    description: 'from sigqueue to the handler: C signalfd, ours, and process.on',
    run: benchSignal,
  },
  {
    name: 'priority',
    description: "an urgent event's wait beside a flood of others: ours and Node net",
    run: benchPriority,
  },
  {
    name: 'connections',
    description: '10,000 open connections: ours and Node net',
    run: benchConnections,
    steady: true,
  },
  {
    name: 'uds-vs-tcp',
    description: 'the same server on a Unix socket and on TCP loopback',
    run: benchUdsVsTcp,
  },
  {
    name: 'sendfile',
    description: 'files over a Unix socket: sendFile(), createReadStream().pipe(), and C',
    run: benchSendFile,
    steady: true,
  },
  {
    name: 'dgram',
    description:
      'datagrams one way: ours, npm unix-dgram and node-unix-socket, and C with recvmmsg and sendmmsg',
    run: benchDgram,
  },
  {
    name: 'seqpacket',
    description: 'echo servers on a Unix socket of packets: ours, npm node-unix-socket, and C epoll',
    run: benchSeqpacket,
  },
  {
    name: 'shm',
    description: 'rings in shared memory: C, ours, MessagePort, process.send, a Unix socket',
    run: benchShm,
  },
  {
    name: 'cell',
    description: 'the newest sample in shared memory: our writer and C, beside 0, 1 and 4 readers',
    run: benchCell,
  },
  {
    name: 'channel',
    description: 'messages between two threads: Channel and MessagePort',
    run: benchChannel,
  },
  {
    name: 'mapped',
    description: 'random reads of a warm file: MappedFile and fs.readSync',
    run: benchMapped,
    steady: true,
  },
]
