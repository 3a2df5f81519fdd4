/** `npm start`, `npm run client`, `npm run shm-stream`, `npm run mmap-log`, `npm run bench`: set-up, then the program in this same process with what is left of argv. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root, setUp } from './setup.mjs'

const programs = {
  daemon: 'packages/examples/dist/daemon/main.js',
  client: 'packages/examples/dist/daemon/client-main.js',
  'mmap-log': 'packages/examples/dist/mmap-log/main.js',
  'shm-stream': 'packages/examples/dist/shm-stream/main.js',
  bench: 'packages/bench/dist/main.js',
}

const [name, ...args] = process.argv.slice(2)
const main = join(root, programs[name])
try {
  await setUp()
} catch (error) {
  console.error(`${error.output ?? ''}\nset-up failed: ${error.message}`)
  process.exit(1)
}
process.argv.splice(1, Infinity, main, ...args)
await import(pathToFileURL(main).href)
