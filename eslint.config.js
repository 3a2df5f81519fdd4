import js from '@eslint/js'
import { defineConfig } from 'eslint/config'
import tseslint from 'typescript-eslint'
import { layers } from './scripts/eslint-layers.mjs'

// Imports point strictly down: a file may import what stands above it here. A new file gets a place of its own.
const files = {
  core: [
    'errors.ts',
    'options.ts',
    'sys/constants.ts',
    'sys/native.ts',
    'sys/index.ts',
    'epoll.d.ts',
    'fd-handle.ts',
    'batch.ts',
    'message-record.ts',
    'registry.ts',
    'stats.ts',
    'wakeup.ts',
    'handler-errors.ts',
    'reactor-options.ts',
    'reactor.ts',
    'source.ts',
    'once.ts',
    'fd-watcher.ts',
    'index.ts',
  ],
  'fd-events': [
    'durations.ts',
    'record-copy.ts',
    'passed-fds.ts',
    'deadlines.ts',
    'event-fd.ts',
    'timer-options.ts',
    'timer-schedule.ts',
    'timer-fd.ts',
    'signal-names.ts',
    'signal-info.ts',
    'signal-hub.ts',
    'signal-fd.ts',
    'byte-stream.ts',
    'framing.ts',
    'fixed.ts',
    'length-prefixed.ts',
    'delimited.ts',
    'lines.ts',
    'frames.ts',
    'socket-kind.ts',
    'environment.ts',
    'activation.ts',
    'unix-address.ts',
    'unix-peer.ts',
    'unix-path.ts',
    'unix-connect.ts',
    'socket-limits.ts',
    'stream-control.ts',
    'stream-queue.ts',
    'stream-options.ts',
    'stream-socket.ts',
    'send-file.ts',
    'splice-end.ts',
    'splice-flow.ts',
    'splice.ts',
    'socket-listener.ts',
    'unix-socket-listener.ts',
    'sender-options.ts',
    'unix-stream.ts',
    'unix-listener.ts',
    'message-options.ts',
    'message-info.ts',
    'message-setup.ts',
    'message-queue.ts',
    'message-socket.ts',
    'unix-datagram.ts',
    'notify.ts',
    'unix-seqpacket.ts',
    'unix-seqpacket-listener.ts',
    'tcp-address.ts',
    'tcp-options.ts',
    'tcp-connect.ts',
    'tcp-stream.ts',
    'tcp-listener.ts',
    'duplex.ts',
    'listen.ts',
    'hand-over-channel.ts',
    'hand-over.ts',
    'take-over.ts',
    'index.ts',
  ],
}
const packages = {
  core: [],
  'fd-events': ['core'],
  examples: ['core', 'fd-events'],
  bench: ['core', 'fd-events'],
}

export default defineConfig(
  { ignores: ['**/dist/', '**/build/', 'docs/api/'] },
  js.configs.recommended,
  {
    // Scripts run in the Node that lints them, so its globals are theirs.
    files: ['**/*.{js,mjs}'],
    languageOptions: {
      globals: Object.fromEntries(Object.getOwnPropertyNames(globalThis).map((name) => [name, false])),
    },
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { project: './tsconfig.check.json', tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      // `return void f()` and `(x) => f(x)` are how a handler is written.
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        { ignoreArrowShorthand: true, ignoreVoidOperator: true, ignoreVoidReturningFunctions: true },
      ],
      '@typescript-eslint/no-meaningless-void-operator': 'off',
      '@typescript-eslint/consistent-type-imports': ['error', { disallowTypeAnnotations: false }],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
    },
  },
  {
    files: ['packages/*/test/**/*.ts'],
    // vitest's matchers (`expect.any` and its kin) are typed `any`, and stand where values are expected.
    rules: { '@typescript-eslint/no-unsafe-assignment': 'off' },
  },
  {
    files: ['packages/*/src/**/*.ts'],
    plugins: { local: { rules: { layers } } },
    rules: { 'local/layers': ['error', { packages, files }] },
  },
)
