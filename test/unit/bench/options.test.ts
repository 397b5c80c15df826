/** What `culvert bench` takes, and what it refuses with which words. */
import { describe, expect, test } from 'vitest';
import { isEnrolled, isRedirected, notApplicable, parseOptions, type BenchFlags } from '../../../src/bench/options.ts';
import { scenarios } from '../../../src/bench/report.ts';
import { medianInterval } from '../../../src/bench/statistics/interval.ts';

const out = '/tmp/nowhere';

describe('defaults', () => {
  test('every scenario but nftables, at least five rounds, the stand-in first', () => {
    const options = parseOptions({ out });
    expect(options.scenarios).toEqual(scenarios.filter((scenario) => scenario !== 'nftables'));
    expect(options.rounds).toBeGreaterThanOrEqual(5);
    expect(options.tunnels).toEqual(['none', 'builtin']);
    expect(options).toMatchObject({ nodes: 1, quick: false, ztunnel: undefined });
  });

  test('so many rounds that every order of the scenarios comes equally often, and intervals hold the median as often as they say', () => {
    const { rounds, scenarios: measured } = parseOptions({ out });
    expect(rounds % (measured.length * (measured.length % 2 === 0 ? 1 : 2))).toBe(0);
    let state = 1;
    const random = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
    const held = Array.from({ length: 4000 }, () => medianInterval(Array.from({ length: rounds }, random))).filter(
      ({ low, high }) => low <= 0.5 && high >= 0.5,
    ).length;
    expect(held / 4000).toBeGreaterThan(0.93);
  });

  test('quick is few and short rounds of what matters most, and may be bent', () => {
    const quick = parseOptions({ out, quick: true });
    expect(quick.scenarios).toEqual(['direct', 'iptables', 'ebpf']);
    expect(quick.rounds).toBeLessThan(5);
    expect(parseOptions({ out, quick: true, rounds: '1', scenarios: 'ebpf' })).toMatchObject({ rounds: 1, scenarios: ['ebpf'] });
  });

  test('lists, in their own order, blanks allowed', () => {
    expect(parseOptions({ out, scenarios: 'ebpf, direct', tunnel: 'builtin,none' })).toMatchObject({
      scenarios: ['ebpf', 'direct'],
      tunnels: ['builtin', 'none'],
    });
    expect(parseOptions({ out, seconds: '0.25' }).measureMs).toBe(250);
  });
});

test.each<[Omit<BenchFlags, 'out'>, RegExp]>([
  [{ scenarios: 'direct,xdp' }, /--scenarios direct,xdp: "xdp" is none of direct, direct-2, iptables/],
  [{ scenarios: 'ebpf,ebpf' }, /"ebpf" is named twice/],
  [{ scenarios: '' }, /"" is none of/],
  [{ tunnel: 'envoy' }, /--tunnel envoy: "envoy" is none of builtin, external, none/],
  [{ tunnel: 'external' }, /--tunnel external: --ztunnel PATH must say/],
  [{ ztunnel: '/bin/true' }, /--ztunnel \/bin\/true: it is used by --tunnel external only/],
  [{ rounds: '4' }, /--rounds 4: it must be a whole number from 5/],
  [{ rounds: 'many' }, /--rounds many/],
  [{ rounds: '0', quick: true }, /--rounds 0: it must be a whole number from 1/],
  [{ nodes: '3' }, /--nodes 3: it must be a whole number from 1 to 2/],
  [{ seconds: '0' }, /--seconds 0/],
  [{ seconds: '-1' }, /--seconds -1/],
  [{ seconds: '1e3' }, /--seconds 1e3/],
])('%j is refused as usage', (flags, words) => {
  expect(() => parseOptions({ out, ...flags })).toThrow(expect.objectContaining({ code: 'USAGE', exit: 2 }));
  expect(() => parseOptions({ out, ...flags })).toThrow(words);
});

test('a node-level redirect has cells with the stand-in on one node only, everybody else always', () => {
  expect(notApplicable('geneve', 'builtin', 1)).toMatch(/no listener for the whole node/);
  expect(notApplicable('geneve', 'none', 2)).toMatch(/one node/);
  expect(notApplicable('geneve', 'none', 1)).toBeUndefined();
  for (const scenario of scenarios.filter((each) => each !== 'geneve'))
    for (const tunnel of ['none', 'builtin', 'external'] as const) expect(notApplicable(scenario, tunnel, 2)).toBeUndefined();
});

test('what is enrolled is redirected; what is not redirected is the two baselines', () => {
  expect(scenarios.filter((scenario) => !isRedirected(scenario))).toEqual(['direct', 'direct-2']);
  expect(scenarios.filter(isEnrolled).every(isRedirected)).toBe(true);
});
