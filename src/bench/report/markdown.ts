/** The tables of a report as Markdown, for docs/benchmarks.md: nobody types a measured number. */
import type { Report } from '../report.ts';
import { bytes, count, percent, quantity, range, ratioText } from './format.ts';
import { footnotes, type Footnotes } from './footnotes.ts';
import { cautions, findings, heading } from './sentences.ts';
import { pairName, sectionsOf, type Compared, type Section, type Shown } from './view.ts';

export function renderMarkdown(report: Report): string {
  const { environment } = report;
  const facts = [
    `Made by \`${report.command.replaceAll('`', "'")}\`, ${report.started}, ${count(report.rounds, 'round')}, ${Math.round(report.seconds)} s:`,
    `${environment.cpus} × ${environment.cpu}${environment.virtual === undefined ? '' : ` (${environment.virtual})`}, ${bytes(environment.memoryBytes)},`,
    `${environment.kernel}, Culvert ${environment.culvert}; others used ${percent(environment.strangers.median)} of the processors in the median,`,
    `at most ${percent(environment.strangers.max)}.`,
  ];
  const said = [
    ...cautions(report),
    ...findings(report).flatMap(({ lead, sentences }) => sentences.map((sentence) => `${lead}: ${sentence}`)),
  ];
  const parts = [
    facts.map(text).join('\n'),
    said.map((sentence) => `- ${text(sentence)}`).join('\n'),
    ...sectionsOf(report).flatMap(sectionText),
    profileText(report),
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function sectionText(section: Section): string[] {
  const notes = footnotes();
  const medians = table(
    ['metric', 'unit', ...section.scenarios],
    section.rows.map(({ metric, unit, shown }) => [
      metric.title,
      unit,
      ...section.scenarios.map((name) => cellText(shown.get(name) ?? { kind: 'none' }, notes)),
    ]),
  );
  const compared = section.rows.filter((row) => row.compared.size > 0);
  const ratios = table(
    ['a / b', ...section.pairs.map(pairName)],
    compared.map((row) => [
      row.metric.title + (row.metric.better === undefined ? '' : ` (${row.metric.better} is better)`),
      ...section.pairs.map((pair) => ratioCell(row.compared.get(pairName(pair)))),
    ]),
  );
  return [
    `#### ${text(heading(section))}`,
    medians,
    notes.texts.map((note, i) => `${i + 1}. ${text(note)}`).join('\n'),
    ...(compared.length === 0 ? [] : [ratios]),
  ];
}

function cellText(shown: Shown, notes: Footnotes): string {
  switch (shown.kind) {
    case 'none':
      return '–';
    case 'not-applicable':
      return `n/a (${notes.mark(`n/a: ${shown.why}`)})`;
    case 'void':
      return `**void** (${notes.mark(shown.why)})`;
    case 'value': {
      const { median, low, high } = shown.cell;
      const mark = shown.why === undefined ? '' : `, note ${notes.mark(shown.why)}`;
      return `${quantity(median)} (${range(low, high, quantity)}${mark})`;
    }
  }
}

function ratioCell(compared: Compared | undefined): string {
  if (compared === undefined) return '–';
  const { ratio, words, winner } = compared;
  const verdict = ratio.a === 'ebpf' && winner === ratio.b ? `**${words}**` : words;
  return `${ratioText(ratio.median)} (${range(ratio.low, ratio.high, ratioText)}), ${verdict}`;
}

function profileText({ profiles = [] }: Report): string {
  if (profiles.length === 0) return '';
  const figure = (value: number | undefined): string => (value === undefined ? '–' : quantity(value));
  const rows = profiles.map((profile) => [
    profile.tunnel,
    profile.scenario,
    figure(profile.userMicros),
    figure(profile.systemMicros),
    figure(profile.contextSwitchesPerOperation),
    profile.programs
      .map(({ program, nsPerRun, runsPerOperation }) => `${program} ${quantity(nsPerRun)} ns × ${quantity(runsPerOperation)}`)
      .join('; ') || 'none',
  ]);
  const head = ['tunnel', 'scenario', 'user CPU, µs', 'kernel CPU, µs', 'context switches', 'eBPF programs, each run × runs'];
  return `#### Where the time of one operation goes\n\n${table(head, rows)}`;
}

function table(head: readonly string[], rows: readonly string[][]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(text).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

/** On one line, and with nothing that Markdown or HTML would take for markup but what is put there here: ** and `. */
function text(value: string): string {
  return value.replaceAll(/\s+/g, ' ').replaceAll('|', '\\|').replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
