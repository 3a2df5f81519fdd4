/**
 * `npm run bench:setup`: the peers that the benches compare with. C libraries and cyclictest come from Debian; npm packages go
 * into packages/bench/peers, apart from what the workspace depends on. None of their install scripts runs: what is used of them works without.
 */
import { join } from 'node:path'
import { root, run } from './setup.mjs'

const DEBIAN = ['libev-dev', 'libevent-dev', 'libuv1-dev', 'rt-tests']

await attempt('Debian packages', debian)
await attempt('npm packages', npm)

/** One that fails does not keep the other away. */
async function attempt(name, action) {
  try {
    console.log(`${name}: ${await action()}`)
  } catch (error) {
    console.error(`${error.output ?? ''}\n${name}: ${error.message}`)
    process.exitCode = 1
  }
}

async function debian() {
  const missing = []
  for (const name of DEBIAN) if (!(await isInstalled(name))) missing.push(name)
  if (missing.length === 0) return `${DEBIAN.join(', ')} are there`
  const command = ['apt-get', 'install', '--yes', '--no-install-recommends', ...missing]
  if (!(await works('apt-get', ['--version']))) {
    throw new Error(`there is no apt-get; install what your system calls ${missing.join(', ')}.`)
  }
  if (process.getuid() !== 0) throw new Error(`only root can install them; run: sudo ${command.join(' ')}`)
  await run('apt-get', ['update'])
  await run(command[0], command.slice(1), { env: { DEBIAN_FRONTEND: 'noninteractive' } })
  return `installed ${missing.join(', ')}`
}

async function isInstalled(name) {
  try {
    return (await run('dpkg-query', ['--show', '--showformat', '${db:Status-Status}', name])) === 'installed'
  } catch {
    return false
  }
}

async function works(command, args) {
  try {
    await run(command, args)
    return true
  } catch {
    return false
  }
}

async function npm() {
  const folder = join(root, 'packages/bench/peers')
  // Not `npm ci`: it refuses a lock file in which optional packages for other systems are left out. The lock file counts here too.
  await run('npm', [
    'install',
    '--prefix',
    folder,
    '--no-save',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
  ])
  return `installed into ${folder}`
}
