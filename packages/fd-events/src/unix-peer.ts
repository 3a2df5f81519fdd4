/**
 * Who is at the other end of a Unix socket, and who may be.
 *
 * The kernel notes the credentials of a peer when it connects (SO_PEERCRED, SO_PEERGROUPS); nothing that the peer sends can change
 * them. Its uid, gid and groups stay true, while its pid may be given to another process once it has ended.
 */
import { inspect } from 'node:util'
import { checkOptions, socket, type PeerCredentials } from '@fd-reactor/core/sys'

/** A connected process, as it was when it connected. */
export interface UnixPeer extends PeerCredentials {
  /** Its supplementary groups. */
  groups: readonly number[]
}

/**
 * Who may connect: whose user is among `uids`, or who has one of `gids` as its group or as a supplementary one; or whom a function
 * lets in. A function that throws lets nobody in.
 */
export type Allow = AllowLists | ((peer: UnixPeer) => boolean)

/** Who may connect: a user of the one list, or a member of a group of the other. */
export interface AllowLists {
  /** User ids. */
  uids?: readonly number[]
  /** Group ids; supplementary groups count. */
  gids?: readonly number[]
}

/** Who is at the other end of `fd`. */
export function peerOf(fd: number): UnixPeer {
  return { ...socket.peer(fd), groups: socket.peerGroups(fd) }
}

/** The check of an {@link Allow}. */
export function allowCheck(value: unknown, name: string): void {
  if (typeof value === 'function') return
  checkOptions(name, value, { uids: ids, gids: ids })
  if (Object.values(value ?? {}).every((list) => list === undefined)) {
    throw new TypeError(`${name} must name uids, gids, or both: with neither, nobody could connect`)
  }
}

/** Whether `allow` lets `peer` in. Throws what its function throws. */
export function allows(allow: Allow, peer: UnixPeer): boolean {
  if (typeof allow === 'function') {
    const answer: unknown = allow(peer)
    // A promise is no answer, and would pass for yes.
    if (typeof answer !== 'boolean')
      throw new TypeError(`allow must return true or false, not ${inspect(answer)}`)
    return answer
  }
  const { uids = [], gids = [] } = allow
  return (
    uids.includes(peer.uid) || gids.includes(peer.gid) || peer.groups.some((group) => gids.includes(group))
  )
}

function ids(value: unknown, name: string): void {
  const isId = (id: unknown): boolean => Number.isInteger(id) && Number(id) >= 0 && Number(id) < 2 ** 32
  if (!Array.isArray(value) || !value.every(isId))
    throw new TypeError(`${name} must be an array of numeric ids`)
}
