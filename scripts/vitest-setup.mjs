/** Tests run the sources, but what they start runs the built files, which must not be older. */
export { build as setup } from './setup.mjs'
