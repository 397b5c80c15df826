/** The two tables of a tunnel's section: medians, and ratios. Each number is there exactly, too: as the value of its <data> element. */
import { quantity, range, ratioText } from '../format.ts';
import type { Footnotes } from '../footnotes.ts';
import { pairName, type Compared, type Pair, type Section, type Shown } from '../view.ts';
import { html, type Markup } from './markup.ts';

export function medianTable(section: Section, notes: Footnotes): Markup {
  return html`<table>
    <caption>
      Medians, below each its bootstrap 95 % interval. “–”: the scenario has no such figure.
    </caption>
    <thead>
      <tr>
        <th scope="col">metric</th>
        ${section.scenarios.map((name) => html`<th scope="col">${name}</th>`)}
      </tr>
    </thead>
    <tbody>
      ${section.rows.map(
        ({ metric, unit, shown }) =>
          html`<tr>
            <th scope="row">${metric.title}<small>${unit}</small></th>
            ${section.scenarios.map((name) => medianCell(name, shown.get(name) ?? { kind: 'none' }, section, notes))}
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function medianCell(scenario: string, shown: Shown, section: Section, notes: Footnotes): Markup {
  const mark = (text: string): Markup => reference(section, notes.mark(text));
  switch (shown.kind) {
    case 'none':
      return html`<td class="empty" data-label="${scenario}"><span>–</span></td>`;
    case 'not-applicable':
      return html`<td data-label="${scenario}"><span>n/a${mark(`n/a: ${shown.why}`)}</span></td>`;
    case 'void':
      return html`<td data-label="${scenario}">
        <span><strong>void</strong>${mark(shown.why)}</span>
      </td>`;
    case 'value': {
      const { median, low, high } = shown.cell;
      return html`<td data-label="${scenario}">
        <span><data value="${median}">${quantity(median)}</data>${shown.why === undefined ? '' : mark(shown.why)}</span>
        <small>${range(low, high, quantity)}</small>
      </td>`;
    }
  }
}

function reference({ tunnel }: Section, mark: string): Markup {
  return html`<sup><a href="#note-${tunnel}-${mark}">${mark}</a></sup>`;
}

export function notesOf({ tunnel }: Section, { texts }: Footnotes): Markup | string {
  if (texts.length === 0) return '';
  return html`<ol class="quiet">
    ${texts.map((text, i) => html`<li id="note-${tunnel}-${i + 1}">${text}</li>`)}
  </ol>`;
}

export function ratioTable({ rows, pairs }: Section): Markup | string {
  const compared = rows.filter((row) => row.compared.size > 0);
  if (compared.length === 0) return '';
  return html`<table>
    <caption>
      Ratios a / b, each taken inside a round, with their intervals; who did better stands
      below.${
        pairs.some(({ twin }) => twin)
          ? ' The last column is the A/A pair and the noise that follows from it: ratios that near to 1 mean nothing.'
          : ''
      }
    </caption>
    <thead>
      <tr>
        <th scope="col">metric</th>
        ${pairs.map(({ a, b }) => html`<th scope="col">${a} / ${b}</th>`)}
      </tr>
    </thead>
    <tbody>
      ${compared.map(
        (row) =>
          html`<tr>
            <th scope="row">
              ${row.metric.title}${row.metric.better === undefined ? '' : html`<small>${row.metric.better} is better</small>`}
            </th>
            ${pairs.map((pair) => ratioCell(pair, row.compared.get(pairName(pair))))}
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function ratioCell(pair: Pair, compared: Compared | undefined): Markup {
  const label = pair.twin ? `${pairName(pair)} (A/A)` : pairName(pair);
  if (compared === undefined) return html`<td class="empty" data-label="${label}"><span>–</span></td>`;
  const { ratio, words, winner } = compared;
  const against = pair.a === 'ebpf' && winner === pair.b;
  return html`<td ${against ? html`class="against"` : ''} data-label="${label}">
    <span><data value="${ratio.median}">${ratioText(ratio.median)}</data></span>
    <small>${range(ratio.low, ratio.high, ratioText)}</small>
    <span class="verdict">${words}</span>
  </td>`;
}
