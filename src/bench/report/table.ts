/**
 * The report on a terminal: a block for each tunnel, a table of medians with their intervals and one of ratios. Words and not colours say
 * who did better.
 */
import type { Report } from '../report.ts';
import { count, quantity, range, ratioText } from './format.ts';
import { footnotes, type Footnotes } from './footnotes.ts';
import { cautions, findings, heading } from './sentences.ts';
import { pairName, sectionsOf, type Compared, type Section, type Shown } from './view.ts';

const LEGEND = [
  'Medians over the rounds; below each its bootstrap 95 % interval. "–": the scenario has no such figure.',
  'Ratios are taken inside a round: a / b. "better" only where the interval lies outside of the noise, which is the A/A ratio',
  'direct-2 / direct, mirrored at 1: two pairs of pods that are the same. A metric without it has an interval without 1 to differ.',
];

/** Ends with a line break. Everything but the letters is drawn with spaces, so that it can be copied into a message. */
export async function renderTable(report: Report): Promise<string> {
  const { default: CliTable } = await import('cli-table3');
  const draw = (head: string[], rows: string[][]): string => {
    const table = new CliTable({
      head,
      chars: PLAIN,
      style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    });
    table.push(...rows);
    return table
      .toString()
      .split('\n')
      .map((line) => line.trimEnd())
      .join('\n');
  };
  const blocks = sectionsOf(report).flatMap((section) => {
    const notes = footnotes();
    return [
      heading(section),
      draw(['', ...section.scenarios], values(section, notes)),
      ...(section.pairs.length === 0 ? [] : [draw(['a / b', ...section.pairs.map(({ a, b }) => `${a}\n/ ${b}`)], ratios(section))]),
      ...(notes.texts.length === 0 ? [] : [notes.texts.map((text, i) => `[${i + 1}] ${text}`).join('\n')]),
    ];
  });
  const found = findings(report).flatMap(({ lead, sentences }) => [`${lead}:`, ...sentences.map((sentence) => `  ${sentence}`)]);
  const said = [...found, ...cautions(report)].flatMap((sentence) => wrap(sentence));
  const how = `${count(report.rounds, 'round')}, ${Math.round(report.seconds)} s, started ${report.started}: ${report.command}`;
  return `${[...blocks, LEGEND.join('\n'), how, said.join('\n')].join('\n\n')}\n`;
}

const PLAIN = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
  ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
  ...{ left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
};

function values(section: Section, notes: Footnotes): string[][] {
  return section.rows.map(({ metric, unit, shown }) => [
    `${metric.title}\n  ${unit}`,
    ...section.scenarios.map((scenario) => cellText(shown.get(scenario) ?? { kind: 'none' }, notes)),
  ]);
}

function cellText(shown: Shown, notes: Footnotes): string {
  switch (shown.kind) {
    case 'none':
      return '–';
    case 'not-applicable':
      return `n/a [${notes.mark(`n/a: ${shown.why}`)}]`;
    case 'void':
      return `void [${notes.mark(shown.why)}]`;
    case 'value': {
      const { median, low, high } = shown.cell;
      const mark = shown.why === undefined ? '' : ` [${notes.mark(shown.why)}]`;
      return `${quantity(median)}${mark}\n${range(low, high, quantity)}`;
    }
  }
}

function ratios(section: Section): string[][] {
  return section.rows
    .filter(({ compared }) => compared.size > 0)
    .map((row) => [
      `${row.metric.title}${row.metric.better === undefined ? '' : `\n  ${row.metric.better} is better`}`,
      ...section.pairs.map((pair) => ratioCell(row.compared.get(pairName(pair)))),
    ]);
}

function ratioCell(compared: Compared | undefined): string {
  if (compared === undefined) return '–';
  const { ratio, words } = compared;
  return [ratioText(ratio.median), range(ratio.low, ratio.high, ratioText), words].join('\n');
}

/** Further lines begin four columns in. */
function wrap(sentence: string, width = 120): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of sentence.split(/(?<=\S) /)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = `    ${word}`;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
