/** The node's tools as processes: several by one shell, told apart, and none waited for without end. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { demandAll, run, runAll, runAllSync } from '../../../src/redirect/netfilter/command.ts';

let netnsFd = -1;
beforeAll(() => {
  netnsFd = openSync('/proc/self/ns/net', 'r');
});
afterAll(() => closeSync(netnsFd));

const COMMANDS = [
  { argv: ['cat'], input: "it's $HOME\n" },
  { argv: ['sh', '-c', 'echo said; echo complained >&2; exit 7'] },
  { argv: ['no-such-program'] },
  { argv: ['sh', '-c', 'printf half; printf a >&2; kill -KILL $$'] },
  { argv: ['cat'], input: 'last\n' },
];
const ANSWERS = [
  { code: 0, stdout: "it's $HOME\n", stderr: '' },
  { code: 7, stdout: 'said\n', stderr: 'complained\n' },
  { code: 127, stdout: '', stderr: expect.stringContaining('no-such-program') as string },
  { code: 137, stdout: 'half', stderr: expect.stringMatching(/^a/) as string },
  { code: 0, stdout: 'last\n', stderr: '' },
];

it('runs several commands by one process, each with its input, its output and its end', async () => {
  expect(await runAll({ netnsFd }, COMMANDS)).toEqual(ANSWERS);
  expect(runAllSync({ netnsFd }, COMMANDS)).toEqual(ANSWERS);
  expect(await runAll({ netnsFd }, [])).toEqual([]);
  await expect(demandAll({ netnsFd }, COMMANDS)).rejects.toMatchObject({
    code: 'SYSTEM',
    message: 'run sh -c echo said; echo complained >&2; exit 7: exit code 7: complained',
  });
});

it('ends what does not end by itself, with everything that it started, and says so', async () => {
  const script = 'echo waiting for the lock >&2; sleep 1000 & echo $! >&2; wait';
  const failed: unknown = await run({ netnsFd, deadlineMs: 500 }, ['sh', '-c', script]).catch((error: unknown) => error);
  expect(failed).toMatchObject({
    code: 'SYSTEM',
    message: expect.stringMatching(/: not done after 0.5 s, killed: waiting for the lock/) as string,
  });
  const child = Number(/(\d+)$/.exec((failed as Error).message)?.[1]);
  await expect.poll(() => alive(child), { timeout: 10_000 }).toBe(false);
});

it('ends them also where it cannot wait, and says which they were', async () => {
  const pidFile = join(mkdtempSync(join(tmpdir(), 'culvert-command-')), 'pid');
  const waits = { argv: ['sh', '-c', `echo $$ >${pidFile}; echo waiting for the lock >&2; exec sleep 1000`] };
  try {
    expect(() => runAllSync({ netnsFd, deadlineMs: 500 }, [waits, { argv: ['true'] }])).toThrow(
      expect.objectContaining({
        message: expect.stringMatching(/^run sh -c .*; true: not done after 0.5 s, killed: waiting for/) as string,
      }),
    );
    const child = Number(readFileSync(pidFile, 'utf8'));
    await expect.poll(() => alive(child), { timeout: 10_000 }).toBe(false);
  } finally {
    rmSync(dirname(pidFile), { recursive: true });
  }
});

it('ends what has no end of words', async () => {
  await expect(run({ netnsFd }, ['yes', 'word '.repeat(100)])).rejects.toMatchObject({
    code: 'SYSTEM',
    message: expect.stringMatching(/: it says more than 64 MiB, killed$/) as string,
  });
});

/** One that nobody has waited for yet does nothing more. */
function alive(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
