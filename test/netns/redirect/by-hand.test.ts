/** `culvert redirect on`: what the agent does for it, with the real driver. */
import { readlinkSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ManualRedirect, tunnelListens } from '../../../src/agent/redirect.ts';
import { heldNetns } from '../../../src/sys/held-netns.ts';
import { native } from '../../../src/sys/native.ts';
import { processes } from '../../../src/sys/procfs.ts';
import type { TestPod } from '../../support/netns.ts';
import { eventually, Scene, TUNNEL_PORTS, withFd } from './scene.ts';

let scene: Scene;
let manual: ManualRedirect;
let asked: number;

beforeAll(async () => {
  scene = await Scene.create();
  manual = new ManualRedirect({
    driver: scene.driver,
    cookieOf: (fd) => native.netnsCookie(fd),
    listens: tunnelListens,
    processes: () => {
      asked++;
      return processes();
    },
    held: heldNetns,
  });
});
afterAll(() => scene.close());

const on = (pod: TestPod): Promise<{ netnsCookie: string; listeners: unknown[] }> => withFd(pod.netns, (fd) => manual.on(fd, {}));
const known = (): string[] => scene.driver.snapshot().map(({ cookie }) => String(cookie));

test('on, and on again: the tunnel may come before or after; who listens is looked for only where somebody does', async () => {
  asked = 0;
  const pod = await scene.node.pod('a', 2);
  const first = await on(pod);
  expect(first).toMatchObject({ datapath: 'active', listeners: [] });
  expect(asked).toBe(0);
  const [tunnel, app] = await Promise.all([scene.tunnel(), scene.app(pod)]);
  await tunnel.call('serve', { name: 'tunnel', netns: pod.netns, ports: TUNNEL_PORTS });
  expect((await on(pod)).netnsCookie).toBe(first.netnsCookie);
  expect((await app.call('connect', { host: '10.77.200.1', port: 81 })).greeting?.by).toBe('tunnel:15001');

  const before = await scene.node.pod('b', 3);
  await tunnel.call('serve', { name: 'before', netns: before.netns, ports: TUNNEL_PORTS });
  asked = 0;
  expect((await on(before)).listeners).toEqual(TUNNEL_PORTS.map((port) => ({ port, alive: true })));
  expect(asked).toBe(1);
  await withFd(pod.netns, (fd) => manual.off(fd));
  await withFd(before.netns, (fd) => manual.off(fd));
  expect(known()).toEqual([]);
  await Promise.all([tunnel.kill(), app.kill()]);
});

test('a netns that is nobody’s any more is taken out by itself, and dies; one with a process or a name stays', async () => {
  const [gone, named, inhabited] = await Promise.all([scene.node.pod('gone', 4), scene.node.pod('named', 5), scene.node.pod('home', 6)]);
  const cookies = await Promise.all([gone, named, inhabited].map(async (pod) => (await on(pod)).netnsCookie));
  const inhabitant = await scene.app(inhabited);
  const inode = /\d+/.exec(readlinkSync(`/proc/${inhabitant.pid}/ns/net`))?.[0] ?? '';
  for (const pod of [gone, inhabited]) await scene.node.deletePod(pod);
  await eventually('the one that is gone is forgotten', () => !known().includes(cookies[0] ?? ''));
  expect(known().toSorted()).toEqual([cookies[1], cookies[2]].toSorted());
  // its end of the veth pair goes with the netns
  await eventually('the netns dies', async () => !(await scene.node.ipIn(`${scene.node.prefix}-node`, 'link show')).includes(' v4@'));
  expect(heldNetns().has(inode)).toBe(true);
  await inhabitant.kill();
  await scene.node.deletePod(named);
  await manual.prune();
  expect(known()).toEqual([]);
  expect(heldNetns().has(inode)).toBe(false);
});
