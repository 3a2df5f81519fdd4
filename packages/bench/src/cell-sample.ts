/** The record of the `cell` bench: 64 bytes, of which number i is the sequence times i. */
import { record } from '@fd-reactor/fd-events'

export const Sample = record({
  a: 'f64',
  b: 'f64',
  c: 'f64',
  d: 'f64',
  e: 'f64',
  f: 'f64',
  g: 'f64',
  h: 'f64',
})
