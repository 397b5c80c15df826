/**
 * A plot as SVG text, drawn by vega without a browser. Colours are custom properties of the page's style sheet, so that one drawing serves
 * light, dark and paper; fonts are the page's. Margins are given, not fitted: without a browser widths of texts are guesses.
 */
import type { TopLevelSpec } from 'vega-lite';
import { escapeHtml } from '../page/markup.ts';
import { loadVega } from './load-vega.ts';

/** In CSS pixels, before the page scales it: three stand beside each other on a wide screen, one on a telephone. */
const WIDTH = 380;
const TOP = 46;
const BOTTOM = 40;

const INK = 'var(--ink)';
const QUIET = 'var(--quiet)';
const FONT = 'inherit';

const CONFIG: TopLevelSpec['config'] = {
  aria: false,
  background: 'transparent',
  view: { stroke: null },
  axis: {
    ...{ domain: false, ticks: false, gridColor: 'var(--grid)', labelColor: INK, titleColor: QUIET },
    ...{
      labelFont: FONT,
      titleFont: FONT,
      labelFontSize: 11,
      titleFontSize: 11,
      titleFontWeight: 'normal',
      labelLimit: 0,
      labelPadding: 6,
    },
    ...{ labelOverlap: false, labelFlush: false },
  },
  title: { font: FONT, color: INK, fontSize: 13, anchor: 'start', subtitleFont: FONT, subtitleColor: QUIET, subtitleFontSize: 11 },
  legend: { labelFont: FONT, titleFont: FONT, labelColor: INK, titleColor: QUIET, labelFontSize: 11, titleFontSize: 11 },
  text: { font: FONT, fontSize: 11, color: INK },
};

export interface Plot {
  title: string;
  subtitle: string;
  /** What somebody hears who does not see it. */
  description: string;
  /** Room for the names of the rows, and for words behind the rows. */
  left: number;
  right: number;
  /** Of all rows together. */
  height: number;
  /** A legend needs more. */
  bottom?: number;
  /** Data and marks: a vega-lite specification without size and title. */
  spec: object;
}

/** Of the area where the marks are. */
export const innerWidth = ({ left, right }: Pick<Plot, 'left' | 'right'>): number => WIDTH - left - right;

export async function draw({ title, subtitle, description, left, right, height, bottom = BOTTOM, spec }: Plot): Promise<string> {
  const { View, Warn, compile, parse } = await loadVega();
  const whole = {
    ...spec,
    config: CONFIG,
    title: { text: title, subtitle, frame: 'group', dx: -left },
    width: innerWidth({ left, right }),
    height,
    padding: { left, right, top: TOP, bottom },
    autosize: 'none',
  } as TopLevelSpec;
  const view = new View(parse(compile(whole).spec), { renderer: 'none', logLevel: Warn });
  try {
    const svg = await view.toSVG();
    // viewBox alone: the page says how wide it is.
    return svg.replace(/^<svg /, `<svg role="img" aria-label="${escapeHtml(description)}" `).replace(/ width="[^"]*" height="[^"]*"/, '');
  } finally {
    view.finalize();
  }
}
