/** 100 pods on one node. Figures are printed, not asserted: they depend on the machine. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { native } from '../../../src/sys/native.ts';
import { settingsOf, tree, type TestPod } from '../../support/netns.ts';
import { Scene } from './scene.ts';

const PODS = 100;
let scene: Scene;
const pods: TestPod[] = [];

beforeAll(async () => {
  scene = await Scene.create();
  for (let i = 0; i < PODS; i++) pods.push(await scene.node.pod(`p${i}`, 10 + i));
});
afterAll(() => scene.close());

const quantile = (values: number[], q: number): string =>
  (values.toSorted((a, b) => a - b)[Math.floor(q * (values.length - 1))] ?? 0).toFixed(2);

/** KiB that the kernel uses for itself: slab, per-CPU memory and what BPF programs are made of. Other users of the machine count in. */
function kernelMemory(): number {
  const text = readFileSync('/proc/meminfo', 'utf8');
  return ['Slab', 'Percpu', 'VmallocUsed'].reduce(
    (sum, key) => sum + Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0),
    0,
  );
}

/** Bytes that the kernel charges to the maps. */
function mapMemory(): number {
  const maps = scene.maps();
  try {
    return [maps.pods, maps.identity, maps.own, maps.listeners, maps.generation, maps.podByAddr, maps.counters].reduce(
      (sum, m) => sum + (native.bpfInfo(m.fd).memlock ?? 0),
      0,
    );
  } finally {
    maps.close();
  }
}

async function timed(step: (pod: TestPod, fd: number) => Promise<void>): Promise<number[]> {
  const times: number[] = [];
  for (const pod of pods) {
    const fd = openSync(pod.netns, 'r');
    const started = performance.now();
    await step(pod, fd);
    times.push(performance.now() - started);
    closeSync(fd);
  }
  return times;
}

test(`${PODS} pods join and leave`, async () => {
  const settings = settingsOf(pods[0]?.netnsName ?? '');
  const pins = tree(scene.pinDir);
  const memory = mapMemory();
  for (const round of ['first', 'second']) {
    const cookies = new Map<TestPod, bigint>();
    const kernel = kernelMemory();
    const joining = await timed(async (pod, fd) => {
      const { cookie } = await scene.driver.prepare(scene.target(pod, fd));
      scene.driver.activate(cookie);
      cookies.set(pod, cookie);
    });
    expect(scene.driver.snapshot().filter((p) => p.state === 'active')).toHaveLength(PODS);
    console.log(`${round} round, kernel memory: ${((kernelMemory() - kernel) / PODS).toFixed(1)} KiB more per pod`);
    if (round === 'first') console.log(`map memory: ${memory} bytes empty, ${((mapMemory() - memory) / PODS).toFixed(0)} more per pod`);
    const restart = performance.now();
    scene.restart();
    const restarted = performance.now() - restart;
    const reconciling = await timed(async (pod, fd) => {
      await scene.driver.reconcile(scene.target(pod, fd));
    });
    const leaving = await timed((pod, fd) => scene.driver.remove(cookies.get(pod) ?? 0n, fd, 0));
    for (const [what, times] of Object.entries({ joining, reconciling, leaving })) {
      console.log(
        `${round} round, ${what}, ms per pod: median ${quantile(times, 0.5)}, p90 ${quantile(times, 0.9)}, worst ${quantile(times, 1)}`,
      );
    }
    console.log(`${round} round, restart of the driver with ${PODS} pods: ${restarted.toFixed(0)} ms`);
  }
  expect(scene.driver.snapshot()).toEqual([]);
  expect(settingsOf(pods[0]?.netnsName ?? '')).toBe(settings);
  expect(tree(scene.pinDir)).toEqual(pins);
}, 120_000);
