import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { defineConfig } from 'vitest/config'

// For the worker threads, which take no flags of their own; forks get theirs below.
setFlagsFromString('--expose-gc')

const source = (path: string): string => fileURLToPath(new URL(`packages/${path}`, import.meta.url))

// Tests run on the sources; only child processes and workers that a test starts run the built files.
const alias = [
  { find: /^@fd-reactor\/core$/, replacement: source('core/src/index.ts') },
  { find: /^@fd-reactor\/core\/sys$/, replacement: source('core/src/sys/index.ts') },
  { find: /^@fd-reactor\/fd-events$/, replacement: source('fd-events/src/index.ts') },
]

// One file at a time: tests count descriptors and measure time. No retries: a test that fails now and then has found something.
const common = { fileParallelism: false, retry: 0, testTimeout: 30_000, hookTimeout: 30_000 }

export default defineConfig({
  test: {
    globalSetup: 'scripts/vitest-setup.mjs',
    projects: [
      {
        resolve: { alias },
        test: {
          ...common,
          name: 'main',
          include: ['packages/*/test/**/*.test.ts'],
          pool: 'forks',
          execArgv: ['--expose-gc'],
        },
      },
      {
        // The conformance suite once more, in a worker thread.
        resolve: { alias },
        test: {
          ...common,
          name: 'worker',
          include: ['packages/*/test/**/*conformance*.test.ts'],
          pool: 'threads',
          env: { FD_REACTOR_IN_WORKER: '1' },
        },
      },
    ],
  },
})
