/** Our echo server in the three forms in which bytes can be had: copied, lent as a view, lent as offsets. */
import type { Reactor } from '@fd-reactor/core'
import { UnixListener } from '@fd-reactor/fd-events'

const backlog = 4096

/** Listens on `path` and echoes; `onConnection` is called for each connection. */
export function listenForEcho(
  reactor: Reactor,
  path: string,
  bytes: string,
  onConnection = (): void => {},
): void {
  if (bytes === 'offsets') {
    const listener = UnixListener.listen(reactor, path, { backlog, borrow: 'offsets' })
    listener.on('connection', (stream) => {
      stream.on('data', (slab, offset, length) => stream.write(slab, offset, length))
      onConnection()
    })
  } else if (bytes === 'borrow') {
    const listener = UnixListener.listen(reactor, path, { backlog, borrow: true })
    listener.on('connection', (stream) => {
      stream.on('data', (view) => stream.write(view))
      onConnection()
    })
  } else {
    const listener = UnixListener.listen(reactor, path, { backlog })
    listener.on('connection', (stream) => {
      stream.on('data', (chunk) => stream.write(chunk))
      onConnection()
    })
  }
}
