/** What `culvert bench` does. */
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { CulvertError, describe } from '../base/errors.ts';
import { parseOptions, type BenchFlags } from '../bench/options.ts';
import { Progress } from '../bench/progress.ts';
import { redraw, writeReport } from '../bench/report/stored.ts';
import { renderTable } from '../bench/report/table.ts';
import type { Report } from '../bench/report.ts';
import { runBench } from '../bench/run.ts';
import { requireRoot } from '../lab/root.ts';
import type { Cli } from './main.ts';
import type { Format } from './output.ts';

/** As shells count a program that Ctrl-C ended. */
const INTERRUPTED = 130;

class Interrupted extends Error {}

type Flags = BenchFlags & { output?: Format; from?: string };

export async function bench(cli: Cli, flags: Flags): Promise<void> {
  if (flags.from !== undefined) return again(cli, flags.from, flags);
  const options = parseOptions(flags);
  const progress = new Progress(cli.io.err, process.stderr.isTTY);
  const interruption = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    // Every one: some send two at once (timeout does), and the second must not end the process while it takes the lab down.
    process.on(signal, () => {
      if (interruption.signal.aborted) return;
      progress.line(`${signal}: taking the lab down`);
      interruption.abort(new Interrupted());
    });
  requireRoot('run benchmark');
  writable(options.out); // before minutes are spent
  try {
    const command = ['culvert', ...process.argv.slice(process.argv.indexOf('bench'))].join(' ');
    const report = await runBench({ options, command, progress, signal: interruption.signal });
    // A disk that filled up meanwhile must not cost what minutes of measuring found.
    const written = await writeReport(options.out, report)
      .catch((error: unknown) => {
        throw new CulvertError('SYSTEM', `write reports to --out ${options.out}`, error);
      })
      .finally(() => print(cli, flags, report));
    progress.line(`written: ${written.json}, ${written.html}`);
    for (const reason of report.invalidReasons) cli.io.err(`culvert: not valid: ${reason}\n`);
    if (!report.valid) cli.exit.code = 1;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    cli.io.err('culvert: benchmark interrupted; nothing was written, and nothing is left of it\n');
    cli.exit.code = INTERRUPTED;
  } finally {
    progress.clear();
  }
}

/** A stored report: its exit code is that of its run. */
async function again(cli: Cli, from: string, flags: Flags): Promise<void> {
  writable(flags.out);
  const { report, html } = await redraw(from, flags.out);
  await print(cli, flags, report);
  cli.io.err(`written: ${html}\n`);
  if (!report.valid) cli.exit.code = 1;
}

async function print(cli: Cli, flags: Flags, report: Report): Promise<void> {
  if ((flags.output ?? (cli.io.tty ? 'table' : 'json')) === 'json') cli.io.out(`${JSON.stringify(report, undefined, 2)}\n`);
  else cli.io.out(await renderTable(report));
}

/** @throws CulvertError USAGE */
function writable(directory: string): void {
  try {
    makeDirectory(resolve(directory));
    accessSync(directory, constants.W_OK);
  } catch (error) {
    throw new CulvertError('USAGE', `write reports to --out ${directory}: ${describe(error)}`, error);
  }
}

/** Step by step: Node's own way does not end where the kernel lets nobody make a directory, as in /proc. */
function makeDirectory(path: string): void {
  if (existsSync(path)) return;
  makeDirectory(dirname(path));
  mkdirSync(path);
}
