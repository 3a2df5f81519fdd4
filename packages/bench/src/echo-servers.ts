/** The echo servers that are compared: what each is called and how it starts, or that it is missing. */
import { cProgram } from './c-program.js'
import { compilesWith, missingPeer, peerProgram, runtimePeer } from './peers.js'
import { cEpoll, nodeNet, ours, type Candidate } from './server.js'

/** A candidate with a name for tables and plots. */
export interface EchoServer {
  name: string
  candidate: Candidate
}

export const C: EchoServer = { name: 'C epoll', candidate: cEpoll('block') }
export const LIBUV: EchoServer = { name: 'C libuv', candidate: (path) => [cProgram('echo-libuv'), path] }
export const LIBEVENT: EchoServer = {
  name: 'C libevent',
  candidate: (path) => [cProgram('echo-libevent'), path],
}
const LIBEV: EchoServer = { name: 'C libev', candidate: (path) => [cProgram('echo-libev'), path] }
export const NET: EchoServer = { name: 'Node net', candidate: nodeNet }
export const BUN: EchoServer = {
  name: 'Bun',
  candidate: (path) => [runtimePeer('bun') ?? 'bun', peerProgram('echo-bun.mjs'), path],
}
const DENO: EchoServer = {
  name: 'Deno',
  candidate: (path) => [
    // It would ask the network whether there is a newer Deno.
    ...['env', 'DENO_NO_UPDATE_CHECK=1', runtimePeer('deno') ?? 'deno'],
    ...['run', '--allow-all', '--no-config', '--no-lock', peerProgram('echo-deno.mjs'), path],
  ],
}
export const COPY: EchoServer = { name: 'ours', candidate: ours('copy') }
export const BORROW: EchoServer = { name: 'ours, borrow', candidate: ours('borrow') }
const OFFSETS: EchoServer = { name: 'ours, offsets', candidate: ours('offsets') }

/** All that this machine can run, in the order of the tables; and a sentence for each that it cannot. */
export function echoServers(): { servers: EchoServer[]; missing: string[] } {
  const servers = [C, LIBUV, LIBEVENT, LIBEV, NET, BUN, DENO, COPY, BORROW, OFFSETS]
  const absent = [
    ...(compilesWith('uv') ? [] : [LIBUV]),
    ...(compilesWith('event_core') ? [] : [LIBEVENT]),
    ...(compilesWith('ev') ? [] : [LIBEV]),
    ...(runtimePeer('bun') === undefined ? [BUN] : []),
    ...(runtimePeer('deno') === undefined ? [DENO] : []),
  ]
  return {
    servers: servers.filter((server) => !absent.includes(server)),
    missing: absent.map(({ name }) => missingPeer(name)),
  }
}

/** The servers, beginning with another one in each round. */
export function inTurn(servers: readonly EchoServer[], round: number): EchoServer[] {
  const first = round % servers.length
  return [...servers.slice(first), ...servers.slice(0, first)]
}
