/** Labs are found and taken down without anything that they remembered about themselves. */
import { existsSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, test } from 'vitest';
import { findLabs, leftovers, takeDown } from '../../../src/lab/down.ts';
import { LabPaths, type LabHome } from '../../../src/lab/paths.ts';
import { parseTopology } from '../../../src/lab/topology.ts';
import { bringUp } from '../../../src/lab/up.ts';

/** "All labs" of this home are ours. */
const home: LabHome = { root: `/run/cvt-lab-home-${String(process.pid)}/labs`, cgroupPrefix: `cvt-lab-home-${String(process.pid)}-` };

const TOPOLOGY = `nodes: [one]
namespaces: { a: {} }
pods:
  - { name: p, namespace: a, node: one }
  - { name: sleeper, namespace: a, node: one, command: [sleep, "1000"] }
  - { name: host, namespace: a, node: one, hostNetwork: true, command: [sleep, "1000"] }
`;

test('two labs side by side, found after a crash and removed, twice', async () => {
  const labs = ['x', 'y'].map((name) => new LabPaths(name, home));
  const [first, second] = labs as [LabPaths, LabPaths];
  try {
    await Promise.all(labs.map((lab) => bringUp(lab, TOPOLOGY, parseTopology(TOPOLOGY, 'test'), { mesh: false })));
    expect(findLabs(home)).toEqual(['x', 'y']);
    // What a crash may leave: one lab without its records, of the other only cgroup and mounts are known to the kernel.
    rmSync(first.nodesDir, { recursive: true });
    rmSync(second.mesh);
    expect(leftovers(first).filter((line) => line.startsWith('process'))).toHaveLength(3);
    for (const name of findLabs(home)) await takeDown(new LabPaths(name, home));
    expect(labs.flatMap(leftovers)).toEqual([]);
    expect(findLabs(home)).toEqual([]);
    expect(existsSync(home.root)).toBe(false);
    expect(await takeDown(first)).toBe(false);
  } finally {
    for (const lab of labs) await takeDown(lab);
    rmSync(dirname(home.root), { recursive: true, force: true });
  }
});

test('a lab that cannot be built leaves nothing', async () => {
  const lab = new LabPaths('broken', home);
  const broken = TOPOLOGY.replace('[sleep, "1000"]', '[sleep, "1000"]').replace('nodes: [one]', `nodes: [one, ${'n'.repeat(63)}]`);
  const pod = broken.replace(
    '  - { name: p, namespace: a, node: one }',
    '  - { name: p, namespace: a, node: one, command: [/nonexistent/program] }',
  );
  rmSync(lab.dir, { recursive: true, force: true });
  await bringUp(lab, pod, parseTopology(pod, 'test'), { mesh: false }).catch(() => undefined);
  await takeDown(lab);
  expect(leftovers(lab)).toEqual([]);
  rmSync(dirname(home.root), { recursive: true, force: true });
});
