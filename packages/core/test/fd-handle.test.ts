import { closeSync, openSync } from 'node:fs'
import { FdHandle } from '@fd-reactor/core'
import { describe, expect, test } from 'vitest'
import { runForJson } from './support/child.js'
import { assertNoLeakedFds, linkOf } from './support/fds.js'

assertNoLeakedFds()

const open = (): number => openSync('/dev/null', 'r')

describe('FdHandle', () => {
  test('adopts, closes once, and knows it', () => {
    const fd = open()
    const handle = FdHandle.adopt(fd)
    expect([handle.fd, handle.closed]).toEqual([fd, false])
    handle.close()
    handle.close()
    expect(handle.closed).toBe(true)
    expect(linkOf(fd)).toBeUndefined()
    expect(() => handle.fd).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    expect(() => handle.duplicate()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
    expect(() => handle.release()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }))
  })

  test('closing twice does not close who got the number in between', () => {
    const handle = FdHandle.adopt(open())
    const number = handle.fd
    handle.close()
    const fd = open()
    expect(fd).toBe(number)
    handle.close()
    expect(linkOf(fd)).toBe('/dev/null')
    closeSync(fd)
  })

  test('refuses what is not open', () => {
    expect(() => FdHandle.adopt(19_999)).toThrow(
      expect.objectContaining({ name: 'SystemError', code: 'EBADF', errno: -9, syscall: 'fcntl' }),
    )
  })

  test('release() gives it up', () => {
    const handle = FdHandle.adopt(open())
    const fd = handle.release()
    handle.close()
    expect(linkOf(fd)).toBe('/dev/null')
    closeSync(fd)
  })

  test('duplicate() makes a second descriptor of the same file, with an owner of its own', () => {
    const handle = FdHandle.adopt(open())
    const copy = handle.duplicate()
    expect(copy.fd).not.toBe(handle.fd)
    handle.close()
    expect(linkOf(copy.fd)).toBe('/dev/null')
    copy.close()
  })

  test('using closes it', () => {
    const fd = open()
    {
      using handle = FdHandle.adopt(fd)
      expect(handle.closed).toBe(false)
    }
    expect(linkOf(fd)).toBeUndefined()
  })

  test('adopting a number again makes the newer handle its owner', () => {
    const fd = open()
    const older = FdHandle.adopt(fd)
    const newer = FdHandle.adopt(fd)
    older.close()
    expect(linkOf(fd)).toBe('/dev/null')
    newer.close()
    expect(linkOf(fd)).toBeUndefined()
  })
})

describe('the collector', () => {
  test('closes what was dropped, and warns', async () => {
    const result = await runForJson(
      `
      import { existsSync, openSync } from 'node:fs'
      const codes = []
      process.on('warning', (warning) => codes.push(warning.code))
      let fds = []
      ;(() => { for (let i = 0; i < 20; i++) fds.push(FdHandle.adopt(openSync('/dev/null')).fd) })()
      const open = () => fds.filter((fd) => existsSync('/proc/self/fd/' + fd)).length
      for (let i = 0; i < 100 && open() > 0; i++) { gc(); await turn() }
      await turn()
      console.log(JSON.stringify([open(), codes.length, [...new Set(codes)]]))`,
      { execArgv: ['--expose-gc'] },
    )
    expect(result).toEqual([0, 20, ['FD_REACTOR_DROPPED_FD']])
  })

  test('leaves alone what was released, closed, or has a new owner', async () => {
    const result = await runForJson(
      `
      import { closeSync, existsSync, openSync } from 'node:fs'
      const codes = []
      process.on('warning', (warning) => codes.push(warning.code))
      const adopt = () => FdHandle.adopt(openSync('/dev/null'))
      let released, reused, kept
      ;(() => {
        adopt().close()
        released = adopt().release()
        const stolen = adopt()
        reused = stolen.fd
        closeSync(reused)
        kept = adopt()
      })()
      for (let i = 0; i < 10; i++) { gc(); await turn() }
      const open = (fd) => existsSync('/proc/self/fd/' + fd)
      console.log(JSON.stringify([kept.fd === reused, open(released), open(reused), codes]))`,
      { execArgv: ['--expose-gc'] },
    )
    expect(result).toEqual([true, true, true, []])
  })

  test('does not touch what a reactor holds, although nobody else does', async () => {
    const result = await runForJson(
      `
      const reactor = new Reactor()
      let fd
      ;(() => {
        const bell = new EventFd(reactor)
        fd = bell.fd
        bell.on('event', (count) => { console.log(String(count)); reactor.close() })
      })()
      for (let i = 0; i < 10; i++) { gc(); await turn() }
      EventFd.write(fd, 77n)`,
      { execArgv: ['--expose-gc'] },
    )
    expect(result).toBe(77)
  })
})
