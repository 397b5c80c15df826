/**
 * bench-docs.ts NAME REPORT.json [DOCUMENT]: puts the tables of a stored report into docs/benchmarks.md, between the lines
 * `<!-- report NAME -->` and `<!-- end of report NAME -->`. Everything between them is replaced; nobody types a measured number.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { renderMarkdown } from '../src/bench/report/markdown.ts';
import { readReport } from '../src/bench/report/stored.ts';

const [name, file, document = 'docs/benchmarks.md'] = process.argv.slice(2);
if (name === undefined || file === undefined) throw new Error('usage: bench-docs.ts NAME REPORT.json [DOCUMENT]');
const [begin, end] = [`<!-- report ${name} -->`, `<!-- end of report ${name} -->`];
const before = readFileSync(document, 'utf8');
const [from, to] = [before.indexOf(begin), before.indexOf(end)];
if (from < 0 || to < from) throw new Error(`write tables to ${document}: it lacks the lines "${begin}" and "${end}", in this order`);
const tables = renderMarkdown(await readReport(file));
writeFileSync(document, `${before.slice(0, from + begin.length)}\n\n${tables}\n${before.slice(to)}`);
