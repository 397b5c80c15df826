/** A scrape of a node with 500 busy pods. Figures are printed, not asserted: they depend on the machine. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Gauges } from '../../../src/agent/metrics/gauges.ts';
import { AgentMetrics } from '../../../src/agent/metrics/metrics.ts';
import { openPinnedMaps, reasons } from '../../../src/maps/index.ts';
import { Scene } from '../redirect/scene.ts';

const PODS = 500;
let scene: Scene;

beforeAll(async () => {
  scene = await Scene.create();
});
afterAll(() => scene.close());

test(`${PODS} pods are read at once`, async () => {
  const metrics = new AgentMetrics('1');
  const known = {
    reconciler: { registry: { all: () => [] } },
    zds: { connections: () => [] },
    source: { kind: 'file', synced: () => true },
  };
  const pinDir = join(scene.node.bpffs, 'scrape');
  const driver = scene.start({ maxPods: PODS, pinDir });
  const observed = { ...known, driver, installation: undefined, perPod: false };
  const gauges = new Gauges(metrics.registry, observed as unknown as ConstructorParameters<typeof Gauges>[1]);
  const maps = openPinnedMaps(join(pinDir, 'maps'));
  try {
    for (let n = 0; n < PODS; n++) {
      const cookie = 1_000_000_000n + BigInt(n);
      for (const { number } of reasons) maps.counters.set({ cookie, reason: number }, 2n);
      for (let address = 0; address < 5; address++) maps.own.set({ cookie, addr: `10.${n >> 8}.${n & 255}.${address}` }, 1);
      for (const port of [15001, 15006, 15008, 15053]) maps.generation.set({ cookie, port }, 1);
    }
  } finally {
    maps.close();
  }
  const times: number[] = [];
  let text = '';
  for (let round = 0; round < 20; round++) {
    const begun = process.cpuUsage();
    text = await gauges.scrape();
    const { user, system } = process.cpuUsage(begun);
    times.push((user + system) / 1000);
  }
  const sorted = times.toSorted((a, b) => a - b);
  console.log(
    `${PODS} pods, ${PODS * reasons.length} counters: a scrape takes ${sorted[10]?.toFixed(1)} ms of CPU (first ${times[0]?.toFixed(1)}, worst ${sorted.at(-1)?.toFixed(1)}), ${text.length} bytes`,
  );
  expect(text).toContain(`culvert_connections_total{direction="outbound",verdict="redirected",reason="tunnel"} ${2 * PODS}\n`);
  expect(text).toContain(`culvert_map_entries{map="own"} ${5 * PODS}\n`);
  expect(text).toContain(`culvert_map_entries{map="counters"} ${PODS * reasons.length}\n`);
});
