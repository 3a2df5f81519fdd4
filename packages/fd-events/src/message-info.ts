/**
 * What a received message is handed over as: its bytes, and what it brought.
 */
import { Buffer } from 'node:buffer'
import { takeMessageHead, type BatchRecord } from '@fd-reactor/core'
import { MessageFlag } from '@fd-reactor/core/sys'
import type { MessageInfo } from './message-options.js'
import { closeAll } from './passed-fds.js'
import { decodeUnixAddress, type UnixAddress } from './unix-address.js'

/** The info of a message that brought nothing; one for all, so that it costs nothing. */
export const PLAIN: MessageInfo = Object.freeze({
  from: undefined,
  credentials: undefined,
  fds: Object.freeze([]),
  pidFd: undefined,
  truncatedFrom: undefined,
})

/** Decodes what messages brought; several in a row mostly come from the same sender. */
export class InfoDecoder {
  #from: UnixAddress | undefined
  #fromBytes: Buffer = Buffer.alloc(0)

  /** What a message brought. Its descriptors are closed when they are collected, if nobody does it before. */
  decode(record: BatchRecord): MessageInfo {
    const head = takeMessageHead(record)
    if (head === undefined) return PLAIN
    const { address, credentials, fds, pidFd, fullLength } = head
    for (const fd of fds) fd.guard()
    const cut = (record.messageFlags & MessageFlag.Truncated) !== 0
    return {
      from: address.length === 0 ? undefined : this.#address(address),
      credentials,
      fds,
      pidFd: pidFd?.guard(),
      truncatedFrom: cut ? fullLength : undefined,
    }
  }

  #address(bytes: Buffer): UnixAddress | undefined {
    if (!bytes.equals(this.#fromBytes)) {
      this.#fromBytes = Buffer.from(bytes)
      this.#from = decodeUnixAddress(this.#fromBytes)
    }
    return this.#from
  }
}

/** Closes what a message brought that nobody took. */
export function closeInfo({ fds, pidFd }: MessageInfo): void {
  closeAll(fds)
  pidFd?.close()
}

/** The arguments of a `'message'` event. */
export function isMessage(event: readonly unknown[]): event is [bytes: Buffer, info: MessageInfo] {
  return Buffer.isBuffer(event[0])
}
