/** cgroup v2 as a pod sees it: in a namespace of its own, with its own part mounted where the whole usually is. */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestNode } from '../../support/netns.ts';

const VIEW = new URL('./cgroup-view.ts', import.meta.url).pathname;
const run = promisify(execFile);

describe('a cgroup namespace of its own', () => {
  let node: TestNode;
  let mine: string;
  let outside: { pid: number };
  beforeAll(async () => {
    node = await TestNode.create('cgns');
    mine = node.cgroupPath('agent');
    outside = await node.process('other', node.nodeNetns);
  });
  afterAll(() => node.close());

  /** @param mounts commands run before, with the whole of cgroup v2 still at its usual place */
  const view = async (mounts: string): Promise<Record<'mount' | 'shown' | 'own' | 'other', string>> => {
    const script = `echo $$ > "$0/cgroup.procs" && exec unshare --cgroup --mount sh -ec '${mounts}; exec "$@"' sh "$@"`;
    const { stdout } = await run('sh', ['-c', script, mine, process.execPath, VIEW, String(outside.pid)]);
    return JSON.parse(stdout) as Record<'mount' | 'shown' | 'own' | 'other', string>;
  };

  it("sees others' cgroups beside its own, and finds all of them below the whole", async () => {
    const whole = join(node.dir, 'whole');
    mkdirSync(whole);
    const root = node.cgroupRoot.slice(0, node.cgroupRoot.lastIndexOf('/'));
    const name = node.cgroupRoot.slice(root.length);
    const seen = await view(`mount --bind ${root} ${whole}; umount ${root} || true; mount -t cgroup2 none ${root}`);
    expect(seen).toEqual({ mount: whole, shown: '/../other', own: `${whole}${name}/agent`, other: `${whole}${name}/other` });
  });

  it('does not take its own part for the whole, though it is called so', async () => {
    const root = node.cgroupRoot.slice(0, node.cgroupRoot.lastIndexOf('/'));
    const seen = await view(`umount ${root}; mount -t cgroup2 none ${root}`);
    expect(seen.mount).toContain(`${root} shows only a part of it; mount the host's`);
  });
});
