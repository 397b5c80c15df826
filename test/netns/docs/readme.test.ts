/** The session in README.md, run: each command must succeed and print the lines shown below it, numbers aside. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';

interface Step {
  command: string;
  shown: string[];
}

/** A lab of the test's own, so that the reader's, called `default`, is left alone. */
const LAB = `cvt-readme-${String(process.pid)}`;
const BUILD = resolve('build');
/** Commands that are run once; the others only read. */
const CHANGES = /^culvert lab (up|down|label|exec)/;

/** `make` would test itself, and the PATH is set for every step. */
const steps = session(readFileSync('README.md', 'utf8')).filter(({ command }) => !/^(make|PATH=)/.test(command));

test.for(steps)('$command', { timeout: 60_000 }, async ({ command, shown }) => {
  const own = command.replaceAll(/culvert lab \w+/g, `$& --name ${LAB}`).replaceAll(/culvert (?!lab)\w+/g, `$& --lab ${LAB}`);
  const missing = (): string => {
    const run = spawnSync('bash', ['-o', 'pipefail', '-c', `{ ${own}; } 2>&1`], {
      encoding: 'utf8',
      env: { ...process.env, PATH: `${BUILD}:${process.env['PATH'] ?? ''}` },
    });
    const printed = run.stdout.replaceAll(LAB, 'default').split('\n');
    const absent = shown.filter((line) => !printed.some((actual) => pattern(line).test(actual)));
    return run.status === 0 && absent.length === 0
      ? ''
      : `exit code ${String(run.status)}, not printed: ${absent.join('\n')}\nbut:\n${run.stdout}`;
  };
  // A reader needs longer than the mesh between two commands; a log line is written when its connection has ended.
  if (CHANGES.test(command)) expect(missing()).toBe('');
  else await expect.poll(missing, { timeout: 5_000, interval: 200 }).toBe('');
});

afterAll(() => {
  execFileSync(`${BUILD}/culvert`, ['lab', 'down', '--name', LAB], { stdio: 'ignore' });
});

function session(text: string): Step[] {
  const block = /```console\n(.*?)```/s.exec(text)?.[1] ?? '';
  return block.split(/^# /m).flatMap((part) => {
    const [command, ...shown] = part.split('\n');
    return command === undefined || command === '' ? [] : [{ command, shown: shown.filter((line) => line !== '' && line !== '…') }];
  });
}

/** The line with any number for a number, any width for a column, and anything for an ellipsis. */
function pattern(line: string): RegExp {
  const escaped = line.replaceAll(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`);
  return new RegExp(
    `^${escaped
      .replaceAll(/\d+/g, String.raw`\d+`)
      .replaceAll(/\s+/g, String.raw`\s+`)
      .replaceAll('…', '.*')}`,
  );
}
