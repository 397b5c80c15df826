/** What a load and its accounting read: orders line by line, CPU time out of the kernel's files. */
import { describe, expect, test } from 'vitest';
import { busySeconds, cpuUse, strangersShare } from '../../../src/bench/cpu.ts';
import { parseOrder } from '../../../src/bench/load.ts';
import { metricsOf } from '../../../src/bench/measure.ts';
import { defaultSizes, tasksOf } from '../../../src/bench/tasks.ts';

const order = { mode: 'connections', address: '10.0.0.1', port: 80, threads: 8, warmMs: 0, measureMs: 100, bytes: 1, snapshots: [] };

describe('orders', () => {
  test('a good one is taken as it is', () => {
    expect(parseOrder(JSON.stringify({ ...order, more: 'ignored' }))).toEqual(order);
  });

  test.each([
    ['{', /no JSON/],
    ['null', /no object/],
    [JSON.stringify({ ...order, mode: 'flood' }), /mode must be one of connections, round-trips, bulk, it is "flood"/],
    [JSON.stringify({ ...order, port: 0 }), /port must be a whole number from 1 to 65535, it is 0/],
    [JSON.stringify({ ...order, threads: 1e6 }), /threads must be a whole number from 1 to 1024/],
    [JSON.stringify({ ...order, measureMs: 1.5 }), /measureMs/],
    [JSON.stringify({ ...order, address: 7 }), /address must be an address, it is 7/],
    [JSON.stringify({ ...order, snapshots: [1] }), /snapshots must be a list of paths/],
  ])('%s is refused', (line, words) => {
    expect(() => parseOrder(line)).toThrow(words);
  });
});

describe('CPU', () => {
  const stat = (usage: number): string => `usage_usec ${usage}\nuser_usec ${usage / 4}\nsystem_usec ${(usage * 3) / 4}\nnr_periods 0\n`;
  const machine = (busy: number): string => `cpu  ${busy} 0 0 5000 10 0 0 0 7 0\ncpu0 1 2 3\nintr 12\n`;

  test('ours is the sum over the cgroups, the machine is everything but idle', () => {
    const use = cpuUse([stat(1e6), stat(2e6), machine(1000)], [stat(1.5e6), stat(4e6), machine(1400)]);
    expect(use).toEqual({ ours: 2.5, user: 0.625, system: 1.875, machine: 4 });
    expect(strangersShare(use, 1, 4)).toBeCloseTo(0.375);
    expect(strangersShare({ ...use, machine: 2 }, 1, 4)).toBe(0); // ticks are coarse
  });

  test('interrupts and stolen time are busy, idle and waiting for disks are not', () => {
    expect(busySeconds('cpu  1 2 3 1000 1000 4 5 6 0 0\n')).toBeCloseTo(0.21);
  });

  test('a cgroup that is gone is a fault, not zero', () => {
    expect(() => cpuUse([stat(1), machine(1)], ['', machine(2)])).toThrow(/cgroup is gone/);
  });
});

test('a run that gives nothing is void in each of its metrics, and in no other', () => {
  const names = tasksOf(defaultSizes).flatMap((task) => metricsOf(task).map(({ metric }) => metric));
  expect(new Set(names).size).toBe(names.length);
  expect(names).toEqual(
    expect.arrayContaining([
      'connections',
      'connection-cpu',
      'conntrack',
      'round-trips-64',
      'round-trip-p999-1',
      'round-trip-cpu-8',
      'bulk',
      'bulk-cpu',
    ]),
  );
  expect(
    tasksOf(defaultSizes)
      .flatMap(metricsOf)
      .every(({ value }) => value === 0),
  ).toBe(true);
});
