/**
 * Draws the plots of the page, in the browser: so they fit its width, and tell figures where the pointer is.
 *
 * The page inlines this file after the plotting library, whose global is `Plot`. It must not import anything but types.
 */
import type * as PlotLibrary from '@observablehq/plot'
import type { Markish } from '@observablehq/plot'
import type { Plot as PlotData, Spread } from '../report.js'

declare const Plot: typeof PlotLibrary

type Kind<Name extends PlotData['kind']> = Extract<PlotData, { kind: Name }>

const ROW = 50
const HEIGHT = 300
/** From an axis down to its name. */
const LABEL = 38
const LEGIBLE_TICKS = 10
/** Enough contrast on white and on black. */
const COLOURS = ['#4269d0', '#e8830c', '#3ca951', '#d6477d', '#8c6bd8', '#2aa3b5', '#9c6b4e', '#8a8f98']

const plain = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 })
const letters = new Intl.NumberFormat('en', { maximumSignificantDigits: 3, notation: 'compact' })
const compact = (value: number): string => letters.format(value)
const number = (value: number): string => (Math.abs(value) < 1e6 ? plain : letters).format(value)

function spreadText({ median, min, max }: Spread, unit: string): string {
  return `${number(median)} ${unit} (${number(min)}–${number(max)})`
}

/** What is counted in bytes goes by powers of two. */
function sizeText(x: number): string {
  if (x % 2 ** 20 === 0) return `${x / 2 ** 20} Mi`
  return x % 1024 === 0 ? `${x / 1024} Ki` : compact(x)
}

/** JSON has no NaN: a value that was not measured came as null. */
function isMeasured({ spread }: { spread: Spread }): boolean {
  return [spread.median, spread.min, spread.max].every((value) => Number.isFinite(value))
}

/** Powers of ten around all values, and steps between them where there are few. */
function logTicks(values: readonly number[]): number[] {
  const first = Math.floor(Math.log10(Math.min(...values)))
  const last = Math.max(first + 1, Math.ceil(Math.log10(Math.max(...values))))
  const steps = last - first <= 2 ? [1, 2, 5] : [1]
  const powers = Array.from({ length: last - first }, (_, index) => 10 ** (first + index))
  return [...powers.flatMap((power) => steps.map((step) => step * power)), 10 ** last]
}

/** Axes with a text for each tick: a logarithmic scale by itself leaves out those that it finds uneven. */
function axis(
  way: 'x' | 'y',
  ticks: readonly number[],
  label: string,
  text: (tick: number) => string,
): Markish[] {
  return way === 'x'
    ? [Plot.gridX(ticks), Plot.axisX(ticks, { label, text, labelOffset: LABEL })]
    : [Plot.gridY(ticks), Plot.axisY(ticks, { label, text, tickSize: 0 })]
}

const common = (width: number, ariaLabel: string) => ({
  width,
  ariaLabel,
  style: { fontSize: '13px', overflow: 'visible' },
})
const lines = (width: number, { caption, series }: Kind<'distribution'> | Kind<'curve'>) => ({
  ...common(width, caption),
  height: HEIGHT,
  marginTop: 32,
  marginLeft: 48,
  marginRight: 24,
  marginBottom: 48,
  color: { legend: true, domain: series.map(({ label }) => label), range: COLOURS },
})

/** Each bar with its name above it, for which a phone has no room beside it, and its spread as an error bar. */
function drawBars({ caption, values, unit }: Kind<'bars'>, width: number): Element | undefined {
  const measured = values
    .filter(isMeasured)
    .map(({ label, spread }, index) => ({ label, index: String(index), ...spread }))
  if (measured.length === 0) return undefined
  const greatest = Math.max(...measured.map(({ max }) => max))
  const whisker = { y: 'index', stroke: 'currentColor', strokeWidth: 1.25 }
  return Plot.plot({
    ...common(width, caption),
    height: ROW * measured.length + 64,
    marginTop: 12,
    marginBottom: 48,
    marginLeft: 6,
    marginRight: 72,
    x: {
      label: unit,
      labelOffset: LABEL,
      grid: true,
      domain: [0, greatest > 0 ? greatest : 1],
      ticks: width < 500 ? 4 : 7,
      tickFormat: compact,
    },
    y: { axis: null, domain: measured.map(({ index }) => index), padding: 0 },
    marks: [
      Plot.barX(measured, {
        y: 'index',
        x: 'median',
        insetTop: 24,
        fill: COLOURS[0] ?? 'currentColor',
        insetBottom: 6,
        title: (bar: (typeof measured)[number]) => `${bar.label}\n${spreadText(bar, unit)}`,
        tip: true,
      }),
      Plot.ruleY(measured, { ...whisker, dy: 9, x1: 'min', x2: 'max' }),
      ...(['min', 'max'] as const).map((x) =>
        Plot.tickX(measured, { ...whisker, x, insetTop: 30, insetBottom: 12 }),
      ),
      Plot.text(measured, {
        y: 'index',
        text: 'label',
        frameAnchor: 'left',
        textAnchor: 'start',
        dx: 5,
        dy: -11,
      }),
      Plot.text(measured, {
        y: 'index',
        x: 'max',
        text: ({ median }: Spread) => number(median),
        textAnchor: 'start',
        dx: 7,
        dy: 9,
        fontWeight: 600,
        fontVariant: 'tabular-nums',
      }),
      Plot.ruleX([0]),
    ],
  })
}

/** Percentiles as HdrHistogram draws them: each nine takes as much room as the one before; the maximum has a place after the last. */
function drawDistribution(plot: Kind<'distribution'>, width: number): Element | undefined {
  const { series, unit } = plot
  const points = series.flatMap(({ label, points }) =>
    points
      .filter(([, value]) => value > 0) // the axis is logarithmic
      .map(([percentile, value]) => ({ label, percentile, value, x: 100 / (100 - percentile) })),
  )
  if (points.length === 0) return undefined
  const last = Math.max(2, ...points.map(({ x }) => x).filter(Number.isFinite))
  const decades = Array.from({ length: Math.floor(Math.log10(last) + 0.01) }, (_, index) => 10 ** (index + 1))
  const names = new Map([1, 2, ...decades].map((x) => [x, String(Number((100 - 100 / x).toFixed(6)))]))
  const maximum = 10 ** (Math.ceil(Math.log10(last) - 0.01) + 0.6)
  if (points.some(({ x }) => x === Infinity)) names.set(maximum, 'max')
  const placed = points.map((point) => ({ ...point, x: Math.min(point.x, maximum) }))
  const marks = { x: 'x', y: 'value', stroke: 'label' }
  const yTicks = logTicks(placed.map(({ value }) => value))
  return Plot.plot({
    ...lines(width, plot),
    x: { type: 'log', domain: [1, Math.max(...placed.map(({ x }) => x))] },
    y: { type: 'log', domain: [yTicks[0], yTicks.at(-1)] },
    marks: [
      axis('x', [...names.keys()], 'percentile', (x) => names.get(x) ?? ''),
      axis('y', yTicks, unit, compact),
      Plot.lineY(placed, { ...marks, strokeWidth: 2 }),
      Plot.dot(placed, {
        ...marks,
        r: 2,
        fill: 'label',
        title: ({ label, percentile, value }: (typeof placed)[number]) =>
          `${label}\n${percentile === 100 ? 'max' : `p${percentile}`}: ${number(value)} ${unit}`,
        tip: true,
      }),
    ],
  })
}

/** How a value goes with a size: medians as a line, the spread as a band. */
function drawCurve(plot: Kind<'curve'>, width: number): Element | undefined {
  const { series, unit, against } = plot
  const points = series.flatMap(({ label, points }) =>
    points
      .filter((point) => point.x > 0 && isMeasured(point))
      .map(({ x, spread }) => ({ label, x, ...spread })),
  )
  if (points.length === 0) return undefined
  const sizes = [...new Set(points.map(({ x }) => x))].sort((a, b) => a - b)
  const xTicks = sizes.length <= LEGIBLE_TICKS ? sizes : logTicks(sizes).slice(1, -1)
  const marks = { x: 'x', y: 'median', stroke: 'label' }
  return Plot.plot({
    ...lines(width, plot),
    x: { type: 'log' },
    y: { label: unit, grid: true, zero: true, nice: true, ticks: 5, tickSize: 0, tickFormat: compact },
    marks: [
      axis('x', xTicks, against, sizeText),
      Plot.areaY(points, { x: 'x', y1: 'min', y2: 'max', fill: 'label', fillOpacity: 0.18 }),
      Plot.lineY(points, { ...marks, strokeWidth: 2 }),
      Plot.ruleX(points, { x: 'x', y1: 'min', y2: 'max', stroke: 'label' }),
      Plot.dot(points, {
        ...marks,
        r: 3,
        fill: 'label',
        title: (point: (typeof points)[number]) =>
          `${point.label}, ${sizeText(point.x)}\n${spreadText(point, unit)}`,
        tip: true,
      }),
    ],
  })
}

function draw(plot: PlotData, width: number): Element | undefined {
  if (plot.kind === 'bars') return drawBars(plot, width)
  if (plot.kind === 'distribution') return drawDistribution(plot, width)
  return drawCurve(plot, width)
}

/** Draws in the place that the page left, and again when its width changes. */
function place(target: HTMLElement, plot: PlotData): void {
  let drawnFor = 0
  const redraw = (): void => {
    const width = Math.floor(target.clientWidth)
    if (width === drawnFor || width === 0) return
    drawnFor = width
    const drawing = draw(plot, width)
    target.replaceChildren(drawing ?? 'nothing was measured')
  }
  redraw()
  new ResizeObserver(redraw).observe(target)
}

const plots = JSON.parse(document.getElementById('plots')?.textContent ?? '[]') as PlotData[]
for (const target of document.querySelectorAll<HTMLElement>('[data-plot]')) {
  const plot = plots[Number(target.dataset['plot'])]
  try {
    if (plot !== undefined) place(target, plot)
  } catch (error) {
    reportError(error) // the page shows it; the others are drawn
  }
}
