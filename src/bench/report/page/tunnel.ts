/** A tunnel's section of the page: tables first, then the same as plots. */
import type { Better } from '../../statistics/verdict.ts';
import { forestPlot } from '../plots/forest.ts';
import { isLatency, latencyPlots } from '../plots/latency.ts';
import { metricPlot } from '../plots/metric.ts';
import { footnotes } from '../footnotes.ts';
import { heading, scenarioText } from '../sentences.ts';
import { pairName, type Pair, type Row, type Section } from '../view.ts';
import { html, Markup } from './markup.ts';
import { medianTable, notesOf, ratioTable } from './tables.ts';

/** The pairs that are drawn; the table has all. */
const DRAWN = ['ebpf / iptables', 'ebpf / direct', 'iptables / direct'];

export const anchor = ({ tunnel }: Section): string => `tunnel-${tunnel}`;

export async function tunnelSection(section: Section): Promise<Markup> {
  const notes = footnotes();
  const medians = medianTable(section, notes);
  const pairs = DRAWN.flatMap((name) => section.pairs.filter((pair) => pairName(pair) === name));
  const forests = [];
  for (const pair of pairs) forests.push(await forestOf(section, pair));
  const plots = [];
  for (const row of section.rows) if (!isLatency(row)) plots.push(await metricPlot(row));
  const latencies = await latencyPlots(section.rows);
  const [first, ...others] = forests;
  return html`<section aria-labelledby="${anchor(section)}">
    <h2 id="${anchor(section)}">${heading(section)}</h2>
    <dl class="facts">
      ${section.scenarios.map(
        (name) =>
          html`<dt>${name}</dt>
            <dd>${scenarioText(name, section.tunnel)}</dd>`,
      )}
    </dl>
    ${first ?? ''}
    <h3>Medians</h3>
    ${medians}${notesOf(section, notes)}
    <h3>Ratios</h3>
    ${ratioTable(section)} ${others}
    ${
      latencies.length === 0
        ? ''
        : html`<h3>Latency</h3>
            <div class="plots">${latencies.map(figure)}</div>`
    }
    <h3>Every round</h3>
    <p class="quiet">
      A dot is one round, the first at the top of its row; the bar is the interval of the median, the number beside it the median. Axes
      begin at zero.
    </p>
    <div class="plots">${plots.map(figure)}</div>
  </section>`;
}

async function forestOf({ rows }: Section, pair: Pair): Promise<Markup | string> {
  const traffic = rows.filter(({ metric }) => metric.group === 'traffic');
  const of = (better: Better): Row[] => traffic.filter(({ metric }) => metric.better === better);
  const drawn = [
    await forestPlot(of('more'), pair, 'Rates'),
    await forestPlot(of('less'), pair, 'CPU time and latency'),
    await forestPlot(
      rows.filter(({ metric }) => metric.group === 'setup'),
      pair,
      'Setting up',
    ),
  ].filter((plot) => plot !== undefined);
  if (drawn.length === 0) return '';
  return html`<h4>${pairName(pair)}</h4>
    <p class="quiet">
      Filled circle: ${pair.a} better. Square: ${pair.b} better. Hollow: cannot be told apart. Grey band: the noise (A/A).
    </p>
    <div class="plots">${drawn.map(figure)}</div>`;
}

function figure(svg: string): Markup {
  return html`<figure>${new Markup(svg)}</figure>`;
}
