import { expect, test } from 'vitest'
import { coreUrl, fdEventsUrl, runForJson } from './support/child.js'
import { assertNoLeakedFds } from './support/fds.js'

assertNoLeakedFds()

test('on anything but Linux the import works, and constructors throw one clear error', async () => {
  const result = await runForJson(
    `
    Object.defineProperty(process, 'platform', { value: 'darwin' })
    const { Reactor, FdHandle } = await import('${coreUrl}')
    await import('${fdEventsUrl}')
    const errors = []
    for (const make of [() => new Reactor(), () => FdHandle.adopt(0)]) {
      try { make() } catch ({ name, code, message }) { errors.push({ name, code, message }) }
    }
    console.log(JSON.stringify(errors))`,
    { bare: true },
  )
  const error = {
    name: 'ReactorError',
    code: 'ERR_UNSUPPORTED_PLATFORM',
    message: expect.stringContaining('darwin') as string,
  }
  expect(result).toEqual([error, error])
})

test('an addon that is missing gives an error that says what to do', async () => {
  const result = await runForJson(
    `
    process.env.FD_REACTOR_ADDON = '/nonexistent.node'
    const { Reactor } = await import('${coreUrl}')
    try { new Reactor() } catch ({ code, message, cause }) { console.log(JSON.stringify({ code, message, cause: cause.code })) }`,
    { bare: true },
  )
  expect(result).toMatchObject({
    code: 'ERR_ADDON_MISSING',
    message: expect.stringContaining('npm rebuild @fd-reactor/core') as string,
    cause: 'MODULE_NOT_FOUND',
  })
})
