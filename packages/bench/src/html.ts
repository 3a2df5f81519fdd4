/** HTML in which every text is escaped: what is put into a template of `html` is text, unless `html` made it. */

/** A piece of HTML that may stand as it is. */
export class Html {
  constructor(readonly source: string) {}
}

type Part = string | number | Html | readonly Html[]

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.map((text, index) => text + write(parts[index] ?? '')).join(''))
}

function write(part: Part): string {
  if (part instanceof Html) return part.source
  if (typeof part === 'object') return part.map(({ source }) => source).join('\n')
  return String(part).replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '')
}

/** The source of a script, which can neither end its element nor begin another. */
export function script(source: string): Html {
  return new Html(source.replaceAll(/<(?=\/script|!--)/gi, '\\x3c'))
}

/** A value in JSON, for an element `<script type="application/json">`. */
export function json(value: unknown): Html {
  return new Html(JSON.stringify(value).replaceAll('<', '\\u003c'))
}
