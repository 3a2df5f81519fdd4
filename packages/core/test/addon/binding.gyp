{
  'targets': [
    {
      'target_name': 'test_addon',
      # native/ is the package's own: what is tested by itself is compiled again here.
      'sources': ['test-addon.cc', 'bus-errors.cc', 'parse-control.cc', 'native/control.cc'],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
      'defines': ['NAPI_VERSION=9', 'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED'],
      'cflags': ['-Wall', '-Wextra', '-fvisibility=hidden', '-Werror=return-type'],
      'cflags_cc': ['-std=gnu++17'],
    },
  ],
}
