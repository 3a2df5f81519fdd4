/**
 * ESLint rule: imports point strictly down.
 *
 * Options: `packages` says which packages lie below each package; `files` lists the source files of a package, lowest
 * first. A file may import what stands before it in its list, so a circle cannot be written, and the packages below by
 * name. The files of a package without a list are free among themselves.
 */
import { dirname, join, relative } from 'node:path'

export const layers = {
  meta: {
    type: 'problem',
    docs: { description: 'imports point strictly down' },
    schema: [{ type: 'object' }],
    messages: {
      unlisted: '{{file}} has no place in the order of {{name}}: add it to the list in eslint.config.js',
      package: '{{name}} may not import {{target}}: imports point down, and that does not lie below it',
      file: '{{file}} may not import {{target}}: imports point down, and eslint.config.js does not list that before it',
      escape: '{{target}} lies outside {{name}}/src: import a package by its name',
    },
  },
  create(context) {
    const { packages, files } = context.options[0]
    const [, name, file] =
      relative(context.cwd, context.filename).match(/^packages\/([^/]+)\/src\/(.+)$/) ?? []
    if (!file) return {}
    const order = files[name]

    function check({ source }) {
      if (typeof source?.value !== 'string') return
      const target = source.value
      const report = (messageId) => context.report({ node: source, messageId, data: { name, file, target } })
      const [, imported] = target.match(/^@fd-reactor\/([^/]+)/) ?? []
      if (imported && !packages[name]?.includes(imported)) report('package')
      if (!target.startsWith('.')) return
      const path = join(dirname(file), target).replace(/\.js$/, '.ts')
      if (path.startsWith('..')) report('escape')
      else if (order?.includes(file) && order.indexOf(path) >= order.indexOf(file)) report('file')
    }

    return {
      Program(node) {
        if (order && !order.includes(file))
          context.report({ node, messageId: 'unlisted', data: { name, file } })
      },
      ImportDeclaration: check,
      ImportExpression: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
      TSImportType: check,
    }
  },
}
