/** Results as one HTML page that needs no network: tables and bars as they are, plots drawn where it is read. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { html, Html, json, script } from './html.js'
import { STYLE } from './page-style.js'
import { formatSpread, type Bar, type Plot, type Table } from './report.js'
import { facts, subject, type Result } from './results.js'

const require = createRequire(import.meta.url)

/** First on the page, so that it sees every error. */
const SHOW_ERRORS = `addEventListener('error', ({ message }) => { document.getElementById('errors').append(message + '\\n') })`

export function page(results: readonly Result[]): string {
  const plots: Plot[] = []
  const sections = results.map((result) => section(result, plots))
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>fd-reactor: what was measured</title>
        <style>
          ${new Html(STYLE)}
        </style>
      </head>
      <body>
        <pre id="errors" role="alert"></pre>
        <script>
          ${script(SHOW_ERRORS)}
        </script>
        <header>
          <h1>fd-reactor: what was measured</h1>
          ${summary(results)}
        </header>
        <nav aria-label="Scenarios">
          <ul>
            ${results.map(({ scenario, bars }) => html`<li><a href="#${scenario}">${scenario}</a> ${score(bars)}</li>`)}
          </ul>
        </nav>
        <main>${sections}</main>
        <script type="application/json" id="plots">
          ${json(plots)}
        </script>
        ${libraries().map(
          (source) =>
            html`<script>
              ${script(source)}
            </script>`,
        )}
        <script type="module">
          ${script(ours())}
        </script>
      </body>
    </html> `.source
}

/** The plotting library, which wants d3 as a global. */
function libraries(): string[] {
  const files = [
    new URL('d3.min.js', `file://${require.resolve('d3')}`),
    new URL('../dist/plot.umd.min.js', `file://${require.resolve('@observablehq/plot')}`),
  ]
  return files.map((file) => readFileSync(file, 'utf8'))
}

function ours(): string {
  return readFileSync(new URL('page/client.js', import.meta.url), 'utf8')
}

function summary(results: readonly Result[]): Html {
  const bars = results.flatMap((result) => result.bars)
  const met = bars.filter((bar) => bar.met).length
  return html`<p>
    ${results.length} ${results.length === 1 ? 'scenario' : 'scenarios'}; ${met} of ${bars.length} bars met.
    Contenders take turns within each round, and ratios are taken round by round; figures are medians, with
    the least and the greatest of the rounds.
  </p>`
}

function score(bars: readonly Bar[]): Html {
  if (bars.length === 0) return html``
  const met = bars.filter((bar) => bar.met).length
  return html`<span class="${met === bars.length ? 'met' : 'missed'}">${met}/${bars.length}</span>`
}

function section(result: Result, plots: Plot[]): Html {
  const { scenario, command, tables, bars, missing = [] } = result
  return html`<section id="${scenario}">
    <h2>${scenario}</h2>
    <p class="title">${subject(result)}</p>
    <pre class="command"><code>${command}</code></pre>
    <p class="facts">${facts(result).map((fact) => html`<span>${fact}</span>`)}</p>
    ${bars.length > 0 ? barTable(bars) : html``}
    <div class="plots">${(result.plots ?? []).map((plot) => figure(plot, plots.push(plot) - 1))}</div>
    ${tables.map(table)} ${missing.map((peer) => html`<p class="missing">Not measured: ${peer}</p>`)}
  </section>`
}

function figure({ caption }: Plot, index: number): Html {
  return html`<figure>
    <figcaption>${caption}</figcaption>
    <div data-plot="${index}"></div>
  </figure>`
}

function barTable(bars: readonly Bar[]): Html {
  const row = ({ claim, measured, met }: Bar): Html =>
    html`<tr>
      <td>${claim}</td>
      <td>${formatSpread(measured)}</td>
      <td class="${met ? 'met' : 'missed'}">${met ? 'met' : 'not met'}</td>
    </tr>`
  return html`<div class="scroll">
    <table class="bars">
      <caption>
        Bars: the median of the rounds is judged
      </caption>
      <tr>
        <th>bar</th>
        <th>measured</th>
        <th></th>
      </tr>
      ${bars.map(row)}
    </table>
  </div>`
}

function table({ caption, rows: [header = [], ...rows] }: Table): Html {
  return html`<div class="scroll">
    <table>
      <caption>
        ${caption}
      </caption>
      <tr>
        ${header.map((cell) => html`<th>${cell}</th>`)}
      </tr>
      ${rows.map(
        (row) =>
          html`<tr>
            ${row.map((cell) => html`<td>${cell}</td>`)}
          </tr>`,
      )}
    </table>
  </div>`
}
