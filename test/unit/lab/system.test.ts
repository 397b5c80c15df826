import { describe, expect, test } from 'vitest';
import { conflistFor } from '../../../src/lab/chain/conflist.ts';
import { attempt, must } from '../../../src/lab/command.ts';
import { mountsBelow } from '../../../src/lab/mounts.ts';
import { LabPaths } from '../../../src/lab/paths.ts';
import { isAlive, startTimeOf } from '../../../src/lab/processes.ts';
import { until } from '../../../src/lab/until.ts';

const MOUNTINFO = `25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
30 1 0:4 net:[4026532001] /run/culvert-lab/a/netns/fabric rw - nsfs nsfs rw
31 1 0:40 / /run/culvert-lab/a/bpffs rw - bpf culvert-lab-a rw
32 1 0:4 net:[4026532002] /run/culvert-lab/ab/netns/with\\040blank rw - nsfs nsfs rw
`;

describe('mounts', () => {
  test('only those below the directory, deepest first', () => {
    expect(mountsBelow('/run/culvert-lab/a', MOUNTINFO)).toEqual(['/run/culvert-lab/a/netns/fabric', '/run/culvert-lab/a/bpffs']);
    expect(mountsBelow('/run/culvert-lab/ab', MOUNTINFO)).toEqual(['/run/culvert-lab/ab/netns/with blank']);
  });
});

describe('paths', () => {
  test.each(['../x', '', 'A', 'a/b', 'a'.repeat(50)])('lab name %j is refused', (name) => {
    expect(() => new LabPaths(name)).toThrow(/read lab name/);
  });

  test('the conflist', async () => {
    const conflist = conflistFor(new LabPaths('golden').node('node2'), 2);
    await expect(`${JSON.stringify(conflist, undefined, 2)}\n`).toMatchFileSnapshot('../../golden/lab.conflist');
  });
});

describe('processes', () => {
  test('a pid that was given to somebody else is not ours', () => {
    const startTime = startTimeOf(process.pid) ?? '';
    expect(isAlive({ pid: process.pid, startTime })).toBe(true);
    expect(isAlive({ pid: process.pid, startTime: `${startTime}0` })).toBe(false);
    expect(isAlive(undefined)).toBe(false);
  });

  test('commands give exit code and last words', async () => {
    expect(await attempt(['sh', '-c', 'cat; echo oops >&2; exit 3'], { input: 'in' })).toEqual({ code: 3, stdout: 'in', stderr: 'oops\n' });
    await expect(must(['sh', '-c', 'echo oops >&2; exit 3'])).rejects.toThrow(/exit code 3: oops/);
    await expect(attempt(['/no/such/program'])).rejects.toThrow(/start \/no\/such\/program/);
    expect((await attempt(['sleep', '10'], { timeoutMs: 20 })).code).toBe(137);
  });

  test('waiting ends with the last reason', async () => {
    let calls = 0;
    expect(await until('three', 1000, () => ((calls += 1) === 3 ? calls : undefined))).toBe(3);
    await expect(until('never', 30, () => Promise.reject(new Error('no luck')))).rejects.toThrow(
      /wait for never: not within 0.03 s: no luck/,
    );
  });
});
