/**
 * What the tests of TCP share. Everything stays on the loopback interface.
 */
import { isIP } from 'node:net'
import { onTestFinished } from 'vitest'
import { FdHandle, once, SystemError, type Reactor } from '@fd-reactor/core'
import { TcpListener, TcpStream, type TcpAddress, type TcpListenerOptions } from '@fd-reactor/fd-events'
import { Domain, socket, SocketType } from '@fd-reactor/core/sys'
import { within } from '../../core/test/support/wait.js'
import { encodeTcpAddress } from '../src/tcp-address.js'

const EINPROGRESS = -115

/** The loopback addresses of both families. */
export const HOSTS = ['127.0.0.1', '::1'] as const

/** Two connected streams of a reactor in Node's loop. */
export async function tcpPair(
  reactor: Reactor,
  options: TcpListenerOptions = {},
): Promise<[server: TcpStream, client: TcpStream]> {
  const listener = TcpListener.listen(reactor, options)
  const connecting = TcpStream.connect(reactor, listener.address)
  const [server] = await within(once(listener, 'connection'))
  listener.close()
  return [server, await within(connecting)]
}

/** A socket whose connection to `address` is under way, and nothing around it; closed after the test. */
export function rawTcpClient(address: TcpAddress): FdHandle {
  const domain = isIP(address.host) === 4 ? Domain.Ipv4 : Domain.Ipv6
  const handle = new FdHandle(socket.create(domain, SocketType.Stream))
  onTestFinished(() => {
    handle.close()
  })
  const result = socket.connect(handle.fd, encodeTcpAddress(address))
  if (result < 0 && result !== EINPROGRESS) throw new SystemError(result, 'connect', { path: address.host })
  return handle
}
