/** A tiny benchmark from end to end, one that loses a pod, and one that is interrupted. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Progress } from '../../../src/bench/progress.ts';
import { parseOptions } from '../../../src/bench/options.ts';
import { runBench } from '../../../src/bench/run.ts';
import { podOf } from '../../../src/bench/topology.ts';
import { findLabs, leftovers } from '../../../src/lab/down.ts';
import { LabPaths, type LabHome } from '../../../src/lab/paths.ts';
import { readRecord, signal } from '../../../src/lab/processes.ts';
import { selfCommand } from '../../../src/lab/self.ts';

const dir = mkdtempSync(join(tmpdir(), 'cvt-bench-'));

afterAll(() => {
  rmSync(dir, { recursive: true });
});

test('every path proven by its counters; a pod that vanishes makes its scenario void from there on, and no other', async () => {
  const home: LabHome = { root: join(dir, 'labs'), cgroupPrefix: `cvt-bench-${process.pid}-` };
  const lab = new LabPaths(`bench-${process.pid}`, home);
  const kill = (text: string): void => {
    if (!text.startsWith('round 2 ')) return;
    const { namespace, name } = podOf('server', 'direct');
    expect(signal(readRecord(lab.node('node1').pidDir, `pod-${namespace}-${name}`), 'SIGKILL')).toBe(true);
  };
  const report = await runBench({
    options: parseOptions({ quick: true, rounds: '3', seconds: '0.1', scenarios: 'direct,ebpf', out: dir }),
    ...{ command: 'test', progress: new Progress(kill, false), signal: new AbortController().signal, home },
  });
  expect(findLabs(home)).toEqual([]);
  expect(leftovers(lab)).toEqual([]);

  expect(report).toMatchObject({ valid: false, quick: true, rounds: 3, tunnels: [{ kind: 'none' }] });
  expect(report.invalidReasons.join('; ')).toMatch(/direct: pod plain\/server-direct vanished: its process ended/);
  const void_ = report.samples.filter(({ valid }) => !valid);
  expect(new Set(void_.map(({ scenario, round }) => `${scenario} ${round}`))).toEqual(new Set(['direct 3']));
  for (const [scenario, rounds] of Object.entries({ direct: 2, ebpf: 3 }))
    for (const metric of ['connections', 'connection-cpu', 'round-trips-8', 'round-trip-p50-8', 'bulk', 'bulk-cpu']) {
      const cell = report.cells.find((each) => each.scenario === scenario && each.metric === metric);
      expect(cell?.samples, `${scenario} ${metric}`).toHaveLength(rounds);
      expect(cell?.median, `${scenario} ${metric}`).toBeGreaterThan(0);
    }
  expect(report.cells.filter(({ metric }) => metric === 'conntrack').map(({ median }) => median)).toEqual([0, 0]);
});

test('Ctrl-C in the middle: exit code 130, no report, nothing is left', async () => {
  const out = join(dir, 'interrupted');
  const [node, ...args] = selfCommand() as [string, ...string[]];
  const flags = ['--quick', '--rounds', '1000', '--scenarios', 'direct', '--out', out];
  const child = spawn(node, [...args, 'bench', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = once(child, 'exit');
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (!said.includes('round 1 ') && (said + text).includes('round 1 '))
      for (const name of ['SIGINT', 'SIGINT', 'SIGTERM'] as const) child.kill(name); // as impatient people do
    said += text;
  });
  expect(await exited, said).toEqual([130, null]);
  expect(said).toMatch(/interrupted; nothing was written/);
  expect(existsSync(join(out, 'report.json'))).toBe(false);
  expect(leftovers(new LabPaths(`bench-${child.pid}`))).toEqual([]);
});
