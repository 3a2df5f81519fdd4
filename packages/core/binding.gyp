{
  'targets': [
    {
      'target_name': 'fd_reactor',
      'conditions': [
        # `npm install` of a package that depends on us must succeed everywhere; only Linux gets an addon.
        ['OS!="linux"', { 'type': 'none' }, {
          'sources': ['<!@(node -p "require(\'fs\').readdirSync(\'native\').filter((f) => f.endsWith(\'.cc\')).map((f) => \'native/\' + f).join(\' \')")'],
          'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
          'defines': [
            'NAPI_VERSION=9',
            'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS',
            'NODE_ADDON_API_DISABLE_DEPRECATED',
          ],
          # Named errors only: a warning that a later compiler invents must not break somebody's `npm install`.
          'cflags': [
            '-Wall', '-Wextra', '-fvisibility=hidden',
            '-Werror=return-type', '-Werror=unused-result', '-Werror=uninitialized', '-Werror=format', '-Werror=switch',
          ],
          # Node unloads an addon with the last thread that used it, but our signal handlers stay for the life of the process.
          'ldflags': ['-Wl,-z,nodelete'],
          # Node's own settings come first and may say another standard; the last one counts.
          'cflags_cc': ['-std=gnu++17'],
          'configurations': {
            'Release': { 'cflags': ['-O2'] },
            # The sanitizer build (`build.mjs --asan`).
            'Debug': {
              'cflags': ['-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-fno-omit-frame-pointer'],
              'ldflags': ['-fsanitize=address,undefined'],
            },
          },
        }],
      ],
    },
  ],
}
