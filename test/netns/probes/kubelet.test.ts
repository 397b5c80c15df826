/** Only kubelet's connections are exempt: told by its cgroup, named or found by its process; also when the service starts again. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { native } from '../../../src/sys/native.ts';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { eventually, Scene } from '../redirect/scene.ts';

let scene: Scene;
let tunnel: Endpoint;
let pod: TestPod;
let cookie: bigint;
const stays: ChildProcess[] = [];

beforeAll(async () => {
  scene = await Scene.create();
  tunnel = await scene.tunnel();
  pod = await scene.node.pod('web', 2);
  await (await scene.app(pod)).call('listen', { name: 'app', host: '::', port: 8080 });
  ({ cookie } = await scene.prepare(pod));
  await tunnel.call('serve', { name: 'strict', netns: pod.netns, ports: [15001, 15008] });
  scene.driver.activate(cookie);
});
afterEach(async () => {
  for (const each of stays.splice(0)) await end(each);
});
afterAll(() => scene.close());

/** Who reaches the pod, of which nobody but a probe may in the clear. */
async function reaches(who: Endpoint): Promise<boolean[]> {
  const results = [];
  for (const host of [pod.ip4, pod.ip6, `::ffff:${pod.ip4}`]) results.push((await who.call('connect', { host, port: 8080 })).ok);
  return results;
}
const all = [true, true, true];
const none = [false, false, false];

/** A process of that name in a cgroup and the node's netns. */
async function named(name: string, cgroup: string): Promise<ChildProcess> {
  const enter = 'echo $$ > "$0/cgroup.procs" && exec nsenter --net="$1" sh -c "echo $2 > /proc/\\$\\$/comm; echo ready; cat"';
  const child = spawn('sh', ['-c', enter, cgroup, scene.node.nodeNetns, name], { stdio: ['pipe', 'pipe', 'inherit'] });
  stays.push(child);
  await once(child.stdout, 'data');
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.stdin?.end();
  await once(child, 'exit');
}

/** As systemd does it when a service starts again: the same path, another id. */
async function anew(cgroup: string): Promise<void> {
  await eventually(`${cgroup} is empty`, () => {
    try {
      rmdirSync(cgroup);
      return true;
    } catch {
      return false;
    }
  });
  mkdirSync(cgroup);
}

test('by default every process of the node is exempt', async () => {
  const other = await scene.node.process('other.service', scene.node.nodeNetns);
  expect(await reaches(other)).toEqual(all);
  await other.kill();
});

describe('named', () => {
  test('kubelet and what it starts, and nobody else; the default again without interruption', async () => {
    const [kubelet, below, other] = [
      await scene.node.process('kubelet.service', scene.node.nodeNetns),
      await scene.node.process('kubelet.service/mounts', scene.node.nodeNetns),
      await scene.node.process('other.service', scene.node.nodeNetns),
    ];
    await kubelet.call('load', { name: 'probe', host: pod.ip4, port: 8080 });
    scene.restart({ probeExemption: 'kubelet', kubeletCgroups: ['/nothing.service', '/kubelet.service'] });
    expect(await reaches(kubelet)).toEqual(all);
    expect(await reaches(below)).toEqual(all);
    expect(await reaches(other)).toEqual(none);
    expect(scene.driver.reasons).toEqual([]);
    scene.restart();
    expect(await reaches(other)).toEqual(all);
    const { ok, failed } = await kubelet.call('stop', { name: 'probe' });
    expect(failed).toEqual({});
    expect(ok).toBeGreaterThan(0);
    for (const each of [kubelet, below, other]) await each.kill();
  });

  test('its cgroup made anew: exempt from the next tick on, the old id forgotten; away: told', async () => {
    const path = scene.node.cgroupPath('again.service');
    const before = native.cgroupId(path);
    scene.restart({ probeExemption: 'kubelet', kubeletCgroups: ['/again.service'] });
    const first = await scene.node.process('again.service', scene.node.nodeNetns);
    expect(await reaches(first)).toEqual(all);
    await first.kill();
    await anew(path);
    const after = native.cgroupId(path);
    expect(after).not.toBe(before);
    const second = await scene.node.process('again.service', scene.node.nodeNetns);
    expect(await reaches(second)).toEqual(none);
    scene.driver.refreshNode();
    expect(await reaches(second)).toEqual(all);
    const maps = scene.maps();
    expect(maps.kubelets.keys()).toEqual([after]);
    maps.close();
    await second.kill();
    await eventually('the cgroup can be removed', () => {
      try {
        rmdirSync(path);
        return true;
      } catch {
        return false;
      }
    });
    scene.driver.refreshNode();
    expect(scene.driver.reasons).toEqual([expect.stringMatching(/there is no cgroup .*again\.service.*\(remedy: name its cgroup/)]);
    mkdirSync(path);
    scene.driver.refreshNode();
    expect(scene.driver.reasons).toEqual([]);
    scene.restart();
  });

  test.each([
    ['/', /\/ is the root of cgroup v2, in which everybody may be \(remedy/],
    ['/../elsewhere', /leads out of/],
    [`/${'deep/'.repeat(17)}`, /more than 16 levels deep/],
    ['/not-there.service', /there is no cgroup .*not-there\.service/],
  ])('%s is refused before anything is changed', async (path, message) => {
    const other = await scene.node.process('other.service', scene.node.nodeNetns);
    scene.driver.close();
    expect(() => scene.start({ probeExemption: 'kubelet', kubeletCgroups: [path] })).toThrow(message);
    expect(await reaches(other)).toEqual(all);
    scene.driver = scene.start();
    await other.kill();
  });
});

describe('found by its process', () => {
  test.each(['kubelet', 'k3s-server'])('%s, and another one after it', async (name) => {
    const [kubelet, other] = [
      await scene.node.process('found.service', scene.node.nodeNetns),
      await scene.node.process('other.service', scene.node.nodeNetns),
    ];
    const first = await named(name, scene.node.cgroupPath('found.service'));
    scene.restart({ probeExemption: 'kubelet' });
    expect(await reaches(kubelet)).toEqual(all);
    expect(await reaches(other)).toEqual(none);
    await end(first);
    scene.driver.refreshNode();
    expect(scene.driver.reasons).toEqual([expect.stringMatching(/no process of the node named .*hostPID/)]);
    expect(await reaches(kubelet), 'what was known stays in force').toEqual(all);
    await named(name, scene.node.cgroupPath('other.service'));
    scene.driver.refreshNode();
    expect(await reaches(other)).toEqual(all);
    expect(await reaches(kubelet)).toEqual(none);
    scene.restart();
    for (const each of [kubelet, other]) await each.kill();
  });

  test.each(['kubepods.slice', 'kubelet.slice/kubelet-kubepods.slice'])(
    'a process of that name in a pod, below %s, is not it',
    async (slice) => {
      scene.node.cgroupPath(dirname(slice));
      const path = scene.node.cgroupPath(slice);
      await named('kubelet', path);
      scene.driver.close();
      expect(() => scene.start({ probeExemption: 'kubelet' })).toThrow(/no process of the node named kubelet/);
      scene.driver = scene.start();
    },
  );

  test('in the root of the hierarchy it cannot be told: the remedy is named', async () => {
    await named('kubelet', scene.node.cgroupRoot);
    scene.driver.close();
    expect(() => scene.start({ probeExemption: 'kubelet' })).toThrow(
      /process \d+ runs in the root of cgroup v2, where it cannot be told from others \(remedy: run kubelet as a service/,
    );
    scene.driver = scene.start();
  });
});
