/**
 * Asking the kernel who sends: SO_PASSCRED and SO_PASSPIDFD.
 */
import { SystemError } from '@fd-reactor/core'
import { socket, SocketOption } from '@fd-reactor/core/sys'

const ENOPROTOOPT = -92

/**
 * Says what is wanted, and also what is not: who had the socket before may have wanted it, and it would take the room of descriptors.
 * @throws SystemError `ENOPROTOOPT` when pidfds are wanted before Linux 6.5.
 */
export function askForSender(fd: number, credentials: boolean, pidFd: boolean): void {
  socket.set(fd, SocketOption.PassCredentials, credentials ? 1 : 0)
  try {
    socket.set(fd, SocketOption.PassPidFd, pidFd ? 1 : 0)
  } catch (error) {
    if (!(error instanceof SystemError) || error.errno !== ENOPROTOOPT) throw error
    if (!pidFd) return
    const hint = 'The kernel passes pidfds from Linux 6.5 on: use the option credentials instead'
    throw new SystemError(ENOPROTOOPT, 'setsockopt', { path: 'SO_PASSPIDFD', hint })
  }
}
