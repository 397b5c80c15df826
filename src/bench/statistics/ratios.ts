/**
 * Ratios of two scenarios, each taken inside one round and never across rounds: what the machine did in those minutes, both had.
 * A round in which one of the two is missing or void gives no ratio, and neither does a division by zero.
 */
import { median } from 'simple-statistics';
import type { Ratio, Sample, Scenario } from '../report.ts';
import { usable } from './cells.ts';
import { medianInterval } from './interval.ts';

/** The twin that has the same path as the baseline: what they differ by is noise. */
export const TWIN: { a: Scenario; b: Scenario } = { a: 'direct-2', b: 'direct' };

/** Every scenario against iptables, then against no mesh at all, then the A/A pair. */
const PAIRS: readonly { a: Scenario; b: Scenario }[] = [
  ...against('iptables', ['ebpf', 'nftables', 'geneve']),
  ...against('direct', ['iptables', 'nftables', 'ebpf', 'geneve']),
  TWIN,
];

function against(b: Scenario, others: Scenario[]): { a: Scenario; b: Scenario }[] {
  return others.map((a) => ({ a, b }));
}

/** What another driver takes is compared with both: our iptables driver, and the commands that istio-cni runs for the same rules. */
const ALSO_AS_ISTIO_CNI: readonly string[] = ['program', 'remove'];

function withIstioCni(samples: readonly Sample[]): Sample[] {
  const others = samples.filter(({ scenario, metric }) => scenario !== 'iptables' && ALSO_AS_ISTIO_CNI.includes(metric));
  return [...samples, ...others.map((sample) => ({ ...sample, metric: `${sample.metric}-istio-cni` }))];
}

export function ratiosOf(samples: readonly Sample[]): Ratio[] {
  const groups = Map.groupBy(withIstioCni(samples.filter(usable)), ({ tunnel, metric }) => JSON.stringify([tunnel, metric]));
  return [...groups.values()].flatMap((group) => {
    const [{ tunnel, metric }] = group as [Sample, ...Sample[]];
    return PAIRS.flatMap(({ a, b }) => {
      const values = pairedRatios(group, a, b);
      return values.length === 0 ? [] : [{ metric, tunnel, a, b, ...medianInterval(values), rounds: values.length }];
    });
  });
}

/** a/b of each round that has both, of samples of one metric and tunnel. */
export function pairedRatios(samples: readonly Sample[], a: string, b: string): number[] {
  const above = byRound(samples, a);
  const below = byRound(samples, b);
  return [...above.keys()]
    .toSorted((one, other) => one - other)
    .flatMap((round) => {
      const [over, under] = [above.get(round), below.get(round)];
      if (over === undefined || under === undefined) return [];
      const ratio = over / under;
      return Number.isFinite(ratio) ? [ratio] : [];
    });
}

/** Several values of one round count as their median. */
function byRound(samples: readonly Sample[], scenario: string): Map<number, number> {
  const rounds = Map.groupBy(
    samples.filter((sample) => sample.scenario === scenario && usable(sample)),
    ({ round }) => round,
  );
  return new Map([...rounds].map(([round, of]) => [round, median(of.map(({ value }) => value))]));
}
