/** How the page looks: one column on a phone, contents beside it on a wide screen, light or dark as the reader has it. */
export const STYLE = `
:root { color-scheme: light dark; --ink: light-dark(#1c2126, #e3e6ea); --soft: light-dark(#5b6570, #98a2ad);
  --line: light-dark(#dde1e6, #31373e); --ground: light-dark(#ffffff, #14171a); --raised: light-dark(#f5f7f9, #1c2024);
  --accent: light-dark(#2f55b8, #8fb0ff); --good: light-dark(#1a7f37, #4ac26b); --bad: light-dark(#b3261e, #ff8078) }
* { box-sizing: border-box }
html { scroll-padding-top: 1rem }
body { margin: 0 auto; padding: 1.25rem 1rem 4rem; max-width: 92rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem }
h2 { font-size: 1.3rem; margin: 0 }
header p, .title { max-width: 46rem }
header p { color: var(--soft); margin: 0 0 1.25rem }
a { color: var(--accent); text-decoration: none }
a:hover { text-decoration: underline }
#errors { color: var(--bad); white-space: pre-wrap; margin: 0 }
#errors:empty { display: none }
nav ul { list-style: none; margin: 0 0 1.5rem; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem }
nav span { font-size: .8rem; font-variant-numeric: tabular-nums }
section { border-top: 1px solid var(--line); padding: 1.5rem 0 2rem; min-width: 0 }
main { min-width: 0 }
.title { margin: .25rem 0 .75rem }
.command { margin: 0; padding: .5rem .75rem; background: var(--raised); border: 1px solid var(--line); border-radius: 6px; overflow-x: auto }
code { font: .875rem/1.5 ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace }
.facts { color: var(--soft); font-size: .8125rem; margin: .5rem 0 1.25rem; display: flex; flex-wrap: wrap; gap: 0 1.25rem }
.scroll { overflow-x: auto; margin: 0 0 1.5rem }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
caption { caption-side: top; text-align: left; color: var(--soft); font-size: .8125rem; padding-bottom: .35rem }
th, td { padding: .35rem .75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { font-weight: 600; border-bottom-color: var(--soft) }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
.bars td:first-child { white-space: normal; min-width: 13rem }
.met { color: var(--good) }
.missed { color: var(--bad); font-weight: 600 }
.missing { color: var(--soft); margin: 0 }
.plots { display: grid; gap: 1.5rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); margin-bottom: 1.75rem }
.plots:not(:has(figure)) { display: none }
.plots figure { margin: 0; min-width: 0 }
figcaption { font-weight: 600; font-size: .9375rem; margin-bottom: .5rem }
[data-plot] { color: var(--ink); overflow: hidden }
[data-plot] figure { max-width: 100% }
[data-plot] svg { --plot-background: var(--ground); display: block; max-width: 100% }
[data-plot] [class*='swatches'] { margin-bottom: 0; font-size: .8125rem }
@media (max-width: 36rem) {
  .command { white-space: pre-wrap }
  th, td { padding: .35rem .4rem }
  .bars { width: 100%; font-size: .8125rem }
  .bars td:first-child { min-width: 0; overflow-wrap: anywhere }
}
@media (min-width: 72rem) {
  body { display: grid; grid-template-columns: 11rem minmax(0, 1fr); column-gap: 3rem; padding-top: 2.5rem }
  #errors, header { grid-column: 1 / -1 }
  nav { position: sticky; top: 1.5rem; align-self: start; border-top: 1px solid var(--line); padding-top: 1.5rem }
  nav ul { display: block }
  nav li { display: flex; justify-content: space-between; padding: .15rem 0 }
}
@media print { nav { display: none } section { break-inside: avoid } }
`
