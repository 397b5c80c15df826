/** What metrics, scenarios and tunnels are called in front of people, and which way is better. */
import type { TunnelKind } from '../report.ts';
import type { Better } from '../statistics/verdict.ts';

export interface Metric {
  title: string;
  /** What it is of: connections under load, or putting a redirect in and taking it out. */
  group: 'traffic' | 'setup';
  /** Absent: neither way is, or the metric is not known here. */
  better?: Better;
  /** One sentence: what the number is. */
  what: string;
}

const CONNECTIONS = [1, 8, 64] as const;
const PERCENTILES = { p50: 'half', p99: '99 of 100', p999: '999 of 1,000' } as const;

const kept = (n: number): string => `${n} kept ${n === 1 ? 'connection' : 'connections'}`;
const short = (n: number): string => `${n} conn.`;

/** In the order in which they are shown. */
const METRICS: ReadonlyMap<string, Metric> = new Map<string, Metric>([
  [
    'connections',
    {
      title: 'new connections',
      group: 'traffic',
      better: 'more',
      what: 'connections opened, used for one byte there and back, and closed, each second',
    },
  ],
  [
    'connection-cpu',
    {
      title: 'CPU per new connection',
      group: 'traffic',
      better: 'less',
      what: 'CPU time of client, server and tunnel together for one such connection',
    },
  ],
  ...CONNECTIONS.map((n): [string, Metric] => [
    `round-trips-${n}`,
    { title: `round trips, ${short(n)}`, group: 'traffic', better: 'more', what: `requests answered each second over ${kept(n)}` },
  ]),
  ...CONNECTIONS.flatMap((n) =>
    Object.entries(PERCENTILES).map(([name, share]): [string, Metric] => [
      `round-trip-${name}-${n}`,
      {
        title: `latency ${name === 'p999' ? 'p99.9' : name}, ${short(n)}`,
        group: 'traffic',
        better: 'less',
        what: `${share} of the round trips over ${kept(n)} took no longer`,
      },
    ]),
  ),
  [
    'round-trip-cpu-8',
    {
      title: 'CPU per round trip',
      group: 'traffic',
      better: 'less',
      what: 'CPU time of client, server and tunnel together for one round trip over 8 kept connections',
    },
  ],
  ['bulk', { title: 'bulk throughput', group: 'traffic', better: 'more', what: 'payload that arrives, in one direction' }],
  [
    'bulk-cpu',
    {
      title: 'CPU per GB',
      group: 'traffic',
      better: 'less',
      what: 'CPU time of client, server and tunnel together for 10⁹ bytes of payload',
    },
  ],
  [
    'conntrack',
    { title: 'conntrack entries', group: 'traffic', better: 'less', what: 'entries in the pods’ connection tracking tables under load' },
  ],
  [
    'program',
    { title: 'redirect a pod', group: 'setup', better: 'less', what: 'time until our driver has put the redirect into a pod’s namespace' },
  ],
  ['remove', { title: 'end a redirect', group: 'setup', better: 'less', what: 'time until our driver has taken it out again' }],
  [
    'program-istio-cni',
    { title: 'redirect, as istio-cni', group: 'setup', better: 'less', what: 'the same rules put in by the commands that istio-cni runs' },
  ],
  [
    'remove-istio-cni',
    { title: 'end it, as istio-cni', group: 'setup', better: 'less', what: 'the same rules taken out by the commands that istio-cni runs' },
  ],
  [
    'add',
    {
      title: 'CNI ADD',
      group: 'setup',
      better: 'less',
      what: 'time of one run of the CNI plugin for a new pod, redirect and tunnel included',
    },
  ],
]);

export function metricOf(name: string): Metric {
  return METRICS.get(name) ?? { title: name, group: 'traffic', what: 'a metric that this version does not know' };
}

/** The known ones in their order, then the others in theirs. */
export function inOrder(metrics: Iterable<string>): string[] {
  const present = new Set(metrics);
  return [...METRICS.keys()].filter((name) => present.delete(name)).concat(...present);
}

export const SCENARIOS: Readonly<Record<string, string>> = {
  direct: 'no mesh: nothing stands between the two pods',
  'direct-2': 'a second pair of pods like direct, for the noise of the machine',
  iptables: 'Istio’s rules in the pod, put in by iptables',
  nftables: 'the same rules, put in by nft',
  ebpf: 'Culvert’s eBPF redirect',
  geneve: 'redirect on the node through a pair of tunnel devices, the layout of Istio 1.18',
};

/** What differs with the stand-in: it echoes in the client's own pod, and so does what it is compared with. */
export const WITHOUT_TUNNEL: Readonly<Record<string, string>> = {
  direct: 'no redirect: the same echo server in the client’s own pod, over loopback, as near as the stand-in is',
};

export const TUNNELS: Readonly<Record<TunnelKind, string>> = {
  builtin: 'Culvert’s built-in tunnel',
  external: 'an external ztunnel',
  none: 'a stand-in that accepts and echoes by itself, so that the redirect alone is left',
};
