import { availableParallelism } from 'node:os'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { assertNoLeakedFds } from '../../core/test/support/fds.js'
import { output } from '../src/child.js'
import { echoServers } from '../src/echo-servers.js'
import { runLoad } from '../src/load.js'
import { missingPeer, modulePeer, runtimePeer } from '../src/peers.js'
import { inTurn } from '../src/rounds.js'
import { Server } from '../src/server.js'

assertNoLeakedFds()
afterEach(() => {
  vi.unstubAllEnvs()
})

const { servers, missing } = echoServers()
const SMALL = { bytes: 64, clients: 5, pipeline: 16 }
const LARGE = { bytes: 64 * 1024, clients: 5, pipeline: 1 }
/** More than a socket holds: the server keeps what it cannot write yet, and the load generator what it cannot send. */
const FLOOD = { bytes: 64 * 1024, clients: 3, pipeline: 16 }

// Ours and Node's are compiled with the package. C epoll answers only what the socket can take.
describe.each([
  { name: 'C epoll', loads: [SMALL, LARGE] },
  ...['C libuv', 'C libevent', 'C libev', 'Bun', 'Deno'].map((name) => ({
    name,
    loads: [SMALL, LARGE, FLOOD],
  })),
])('$name', ({ name, loads }) => {
  test.for(loads)('echoes bursts of $pipeline × $bytes bytes to $clients clients', async (load, { skip }) => {
    const found = servers.find((server) => server.name === name)
    if (found === undefined) return skip(missingPeer(name))
    if (availableParallelism() < 2) return skip('the bench needs two processors')
    await using server = await Server.start(found.candidate)
    // The load generator has compared what came back to each client, byte by byte, before it measured.
    const { messagesPerSecond } = await runLoad(server, { ...load, seconds: 0.05 })
    expect(messagesPerSecond).toBeGreaterThan(0)
  })
})

describe('a peer that is not installed', () => {
  test('is named, and every other contender stays', () => {
    vi.stubEnv('PATH', '') // so that there is no compiler
    const without = echoServers()
    expect(without.missing).toEqual(
      expect.arrayContaining(['C libuv', 'C libevent', 'C libev'].map(missingPeer)),
    )
    expect(without.servers.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['C epoll', 'Node net', 'ours', 'ours, borrow', 'ours, offsets']),
    )
    expect(without.servers.map(({ name }) => name)).not.toContain('C libuv')
  })

  test('is either measured or named', () => {
    expect(servers.length + missing.length).toBe(11)
    for (const runtime of ['bun', 'deno'] as const) {
      const name = runtime === 'bun' ? 'Bun' : 'Deno'
      expect(missing.includes(missingPeer(name))).toBe(runtimePeer(runtime) === undefined)
    }
  })
})

// None of their install scripts ran.
test.for(['nanotimer', 'node-unix-socket', 'zeromq'] as const)(
  'the module %s loads',
  async (name, { skip }) => {
    const url = modulePeer(name)
    if (url === undefined) return skip(missingPeer(name))
    const script = `await import('${url}'); console.log('loaded')`
    const printed = await output([process.execPath, '--input-type=module', '--eval', script])
    expect(printed).toBe('loaded\n')
  },
)

test('each round begins with another server, and leaves none out', () => {
  const rounds = servers.map((_, round) => inTurn(servers, round))
  expect(new Set(rounds.map(([first]) => first?.name)).size).toBe(servers.length)
  for (const round of rounds) expect(new Set(round)).toEqual(new Set(servers))
})
