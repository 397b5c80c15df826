import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Sample } from '../../../../src/bench/report.ts';
import { pairedRatios } from '../../../../src/bench/statistics/ratios.ts';
import { summarise } from '../../../../src/bench/statistics/summary.ts';

function sample(scenario: string, round: number, value: number, rest: Partial<Sample> = {}): Sample {
  return { round, scenario, tunnel: 'none', metric: 'connections', unit: '1/s', value, valid: true, ...rest };
}

const rounds = (scenario: string, values: number[]): Sample[] => values.map((value, i) => sample(scenario, i + 1, value));

describe('cells', () => {
  it('leaves void samples out and says how many and why', () => {
    const samples = rounds('ebpf', [10, 11, 12, 13, 14, 9000]);
    samples[5] = { ...samples[5]!, valid: false, why: 'the redirect counter did not move' };
    const [cell] = summarise(samples).cells;
    expect(cell).toEqual({
      scenario: 'ebpf',
      tunnel: 'none',
      metric: 'connections',
      unit: '1/s',
      samples: [10, 11, 12, 13, 14],
      median: 12,
      low: 10,
      high: 14,
      valid: true,
      note: '1 of 6 void: the redirect counter did not move',
    });
  });

  it('is void when no sample is left, and names each reason once', () => {
    const samples = [
      sample('iptables', 1, 5, { valid: false, why: 'no rule was hit' }),
      sample('iptables', 2, 6, { valid: false, why: 'no rule was hit' }),
      sample('iptables', 3, Number.NaN),
    ];
    const { cells, ratios } = summarise(samples);
    expect(cells).toMatchObject([{ valid: false, samples: [], note: '3 of 3 void: no rule was hit; its value is NaN' }]);
    expect(ratios).toEqual([]);
  });

  it('says when there are fewer than five', () => {
    expect(summarise(rounds('ebpf', [1, 2, 3, 4])).cells[0]?.note).toBe('only 4 samples');
    expect(summarise(rounds('ebpf', [1, 2, 3, 4, 5])).cells[0]).not.toHaveProperty('note');
  });

  it('lists samples in the order of the rounds, in whatever order they come', () => {
    const samples = rounds('ebpf', [3, 1, 2, 9, 4]);
    expect(summarise(samples.toReversed())).toEqual(summarise(samples));
    expect(summarise(samples.toReversed()).cells[0]?.samples).toEqual([3, 1, 2, 9, 4]);
  });
});

describe('ratios', () => {
  it('pairs inside a round: what both had in a round falls out', () => {
    const pair = fc.record({
      base: fc.double({ min: 1, max: 1000, noNaN: true }),
      weather: fc.double({ min: 0.1, max: 10, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(pair, { minLength: 1, maxLength: 12 }), fc.double({ min: 0.2, max: 5, noNaN: true }), (pairs, factor) => {
        const samples = pairs.flatMap(({ base, weather }, i) => [
          sample('iptables', i + 1, base * weather),
          sample('ebpf', i + 1, base * weather * factor),
        ]);
        const ratio = summarise(samples).ratios.find(({ a, b }) => a === 'ebpf' && b === 'iptables');
        expect(ratio?.rounds).toBe(pairs.length);
        for (const part of ['median', 'low', 'high'] as const) expect(ratio![part] / factor).toBeCloseTo(1, 9);
      }),
      { numRuns: 25 },
    );
  });

  it('never crosses rounds: a round that lacks one of the two, or has it void, gives none', () => {
    const samples = [
      sample('ebpf', 1, 20),
      sample('iptables', 2, 10),
      sample('ebpf', 3, 30),
      sample('iptables', 3, 10),
      sample('ebpf', 4, 999),
      sample('iptables', 4, 10, { valid: false }),
    ];
    expect(pairedRatios(samples, 'ebpf', 'iptables')).toEqual([3]);
    expect(summarise(samples).ratios).toMatchObject([{ a: 'ebpf', b: 'iptables', median: 3, rounds: 1 }]);
  });

  it('does not divide by zero', () => {
    const samples = [
      ...rounds('direct', [0, 0]),
      ...rounds('direct-2', [0, 0]),
      ...rounds('iptables', [700, 800]),
      ...rounds('ebpf', [0, 0]),
    ];
    expect(summarise(samples).ratios).toEqual([
      { metric: 'connections', tunnel: 'none', a: 'ebpf', b: 'iptables', median: 0, low: 0, high: 0, rounds: 2 },
    ]);
  });

  it('keeps tunnels and metrics apart', () => {
    const samples = [sample('ebpf', 1, 4), sample('iptables', 1, 2, { tunnel: 'builtin' }), sample('iptables', 1, 2, { metric: 'bulk' })];
    expect(summarise(samples).ratios).toEqual([]);
  });

  it('has the A/A pair', () => {
    const samples = [...rounds('direct', [10, 20]), ...rounds('direct-2', [11, 22])];
    expect(summarise(samples).ratios).toMatchObject([{ a: 'direct-2', b: 'direct', median: 1.1 }]);
  });
});

describe('programming a pod', () => {
  it('is compared with what istio-cni does as well, not only with our own driver of its rules', () => {
    const of = (scenario: string, metric: string, value: number): Sample[] =>
      [1, 2, 3, 4, 5].map((round) => sample(scenario, round, value, { metric, unit: 'ms' }));
    const { cells, ratios } = summarise([
      ...of('ebpf', 'program', 2),
      ...of('iptables', 'program', 80),
      ...of('iptables', 'program-istio-cni', 20),
      ...of('ebpf', 'remove', 1),
      ...of('iptables', 'remove-istio-cni', 500),
    ]);
    expect(ratios.map(({ metric, a, b, median }) => [metric, a, b, median])).toEqual([
      ['program', 'ebpf', 'iptables', 2 / 80],
      ['program-istio-cni', 'ebpf', 'iptables', 2 / 20],
      ['remove-istio-cni', 'ebpf', 'iptables', 1 / 500],
    ]);
    expect(cells.filter(({ scenario }) => scenario === 'ebpf').map(({ metric }) => metric)).toEqual(['program', 'remove']);
  });
});
