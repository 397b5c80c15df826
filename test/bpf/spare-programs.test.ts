/** Programs of pods that are loaded before their pod comes: each counts for its own netns, and none is left. */
import { readdirSync, readlinkSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { createLogger } from '../../src/base/log.ts';
import { mapsOf, podState, type Maps } from '../../src/maps/index.ts';
import { loadPodProgram, podTemplate, type PodTemplate } from '../../src/redirect/ebpf/pod-program.ts';
import { SPARES, SparePrograms } from '../../src/redirect/ebpf/spare-programs.ts';
import { bpfObject, native, type LoadedObject } from '../../src/sys/native.ts';
import { addresses, contextOf } from '../support/bpf-lookup.ts';

const PATIENCE = { timeout: 10_000 };

let loaded: LoadedObject;
let maps: Maps;
let template: PodTemplate;
let spares: SparePrograms;
const taken: number[] = [];

beforeAll(() => {
  loaded = native.bpfLoad(bpfObject(), { rodata: {}, reuse: {}, maxEntries: {} });
  maps = mapsOf(loaded);
  template = podTemplate(loaded);
});
afterAll(() => loaded.close());
afterEach(() => {
  spares.close();
  for (const fd of taken.splice(0)) native.closeFd(fd);
  maps.counters.deleteWhere(() => true);
});

const start = (from = template): SparePrograms => (spares = new SparePrograms(from, createLogger('test', 'silent')));
const full = (): Promise<unknown> => vi.waitFor(() => expect(spares.count).toBe(SPARES), PATIENCE);

function take(cookie: bigint): number {
  const fd = spares.take(cookie);
  taken.push(fd);
  return fd;
}

/** Programs and maps that this process holds. */
function openBpf(): number {
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // that of the directory itself
    }
  });
  return links.filter((link) => /^anon_inode:bpf-(prog|map)$/.test(link)).length;
}

/** The netns that a SYN is counted for. */
function countedFor(program: number): bigint[] {
  native.bpfTestRun(program, { ctx: contextOf(addresses.v4.foreign, addresses.v4.own, 8080) });
  const cookies = maps.counters.keys().map(({ cookie }) => cookie);
  maps.counters.deleteWhere(() => true);
  return cookies;
}

test('loaded before it is taken, and then of the netns that it is taken for', async () => {
  start();
  await full();
  const later = loadPodProgram(template, 1n);
  taken.push(later);
  const program = take(0x1122334455667788n);
  expect(native.bpfInfo(program).id).toBeLessThan(native.bpfInfo(later).id);
  expect(native.bpfInfo(program).tag).toBe(native.bpfInfo(later).tag);
  maps.pods.set(0x1122334455667788n, { state: podState.POD_PREPARED, flags: 0 });
  expect(countedFor(program)).toEqual([0x1122334455667788n]);
  await full();
});

test('more at once than there are spares: each has its own netns', async () => {
  start();
  await full();
  const cookies = Array.from({ length: 3 * SPARES }, (_, i) => BigInt(i + 1));
  const programs = cookies.map(take);
  expect(programs.map(countedFor)).toEqual(cookies.map((cookie) => [cookie]));
  await full();
});

test('closed, also while it loads one: nothing is left', async () => {
  start();
  await full();
  spares.close();
  expect(spares.count).toBe(0);
  const before = openBpf();
  start();
  await new Promise((resolve) => setImmediate(resolve));
  spares.close();
  expect(openBpf()).toBeGreaterThan(before);
  await vi.waitFor(() => expect(openBpf()).toBe(before), PATIENCE);
  expect(spares.count).toBe(0);
});

test('a program that the kernel refuses is told of when a pod needs it, not before', async () => {
  const broken = { ...template, instructions: template.instructions.slice(0, -8) };
  start(broken);
  await new Promise((resolve) => setImmediate(resolve));
  expect(spares.count).toBe(0);
  expect(() => spares.take(1n)).toThrow(expect.objectContaining({ program: 'culvert_lookup' }));
});
