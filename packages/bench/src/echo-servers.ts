/** The echo servers that are compared: what each is called and how it starts, or that it is missing. */
import { cProgram } from './c-program.js'
import { libraryPeer, missingPeer, peerProgram, runtimePeer } from './peers.js'
import { cEpoll, nodeNet, ours, type Candidate } from './server.js'

/** A candidate with a name for tables and plots. */
export interface EchoServer {
  name: string
  candidate: Candidate
}

export const C: EchoServer = { name: 'C epoll', candidate: cEpoll('block') }
const THREADS: EchoServer = { name: 'C epoll, beside an idle thread', candidate: cEpoll('threads') }
export const LIBUV: EchoServer = { name: 'C libuv', candidate: (path) => [cProgram('echo-libuv'), path] }
export const LIBEVENT: EchoServer = {
  name: 'C libevent',
  candidate: (path) => [cProgram('echo-libevent'), path],
}
const LIBEV: EchoServer = { name: 'C libev', candidate: (path) => [cProgram('echo-libev'), path] }
export const NET: EchoServer = { name: 'Node net', candidate: nodeNet }
export const BUN: EchoServer = {
  name: 'Bun',
  candidate: (path) => [runtimePeer('bun')?.program ?? 'bun', peerProgram('echo-bun.mjs'), path],
}
const DENO: EchoServer = {
  name: 'Deno',
  candidate: (path) => [
    // It would ask the network whether there is a newer Deno.
    ...['env', 'DENO_NO_UPDATE_CHECK=1', runtimePeer('deno')?.program ?? 'deno'],
    ...['run', '--allow-all', '--no-config', '--no-lock', peerProgram('echo-deno.mjs'), path],
  ],
}
export const COPY: EchoServer = { name: 'ours', candidate: ours('copy') }
export const BORROW: EchoServer = { name: 'ours, borrow', candidate: ours('borrow') }
const OFFSETS: EchoServer = { name: 'ours, offsets', candidate: ours('offsets') }

/** What this machine can run. */
interface EchoServers {
  /** In the order of the tables. */
  servers: EchoServer[]
  /** A sentence for each that it cannot run. */
  missing: string[]
  /** Of the peers that are not part of Node. */
  versions: [name: string, version: string][]
}

export function echoServers(): EchoServers {
  const peers = new Map([
    [LIBUV, libraryPeer('uv')],
    [LIBEVENT, libraryPeer('event_core')],
    [LIBEV, libraryPeer('ev')],
    [BUN, runtimePeer('bun')?.version],
    [DENO, runtimePeer('deno')?.version],
  ])
  const missing: string[] = []
  const versions: EchoServers['versions'] = []
  for (const [{ name }, version] of peers) {
    if (version === undefined) missing.push(missingPeer(name))
    else versions.push([name, version])
  }
  const servers = [C, THREADS, LIBUV, LIBEVENT, LIBEV, NET, BUN, DENO, COPY, BORROW, OFFSETS].filter(
    (server) => !peers.has(server) || peers.get(server) !== undefined,
  )
  return { servers, missing, versions }
}
