/** A scenario's two pods while the lab is up. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CulvertError, isCulvert, isSystem } from '../base/errors.ts';
import { nodeCgroup } from '../lab/cgroups.ts';
import { placeOf, type PodPlace } from '../lab/exec.ts';
import type { LabPaths } from '../lab/paths.ts';
import { isAlive, readRecord, type ProcessRecord } from '../lab/processes.ts';
import { readState } from '../lab/state.ts';
import { podKey } from '../lab/topology.ts';
import { until } from '../lab/until.ts';
import { Netns } from '../sys/netns.ts';
import { askCounts } from './counts.ts';
import { Loader } from './loader.ts';
import { isRedirected } from './options.ts';
import type { Scenario, TunnelKind } from './report.ts';
import { ECHO_PORT } from './serve.ts';
import { podOf, type PodName } from './topology.ts';

/** Alike in every pod, so that none is slowed by the sockets that it has closed. */
export const POD_SYSCTLS: Readonly<Record<string, string>> = { 'net.ipv4.tcp_max_tw_buckets': '64' };

const START_MS = 20_000;

export interface BenchPod {
  place: PodPlace;
  uid: string;
  netns: Netns;
  process: ProcessRecord | undefined;
  /** socket of its server's counts */
  counts: string;
}

export interface Pair {
  scenario: Scenario;
  client: BenchPod;
  server: BenchPod;
  loader: Loader;
  /**
   * What the client dials. Where nothing redirects and there is no tunnel to cross, that is the same echo server in its own pod over
   * loopback: as near to the client as the stand-in is behind a redirect, without the redirect.
   */
  target: { address: string; port: number };
  /** cpu.stat of client, server and tunnels, then /proc/stat */
  cpuFiles: string[];
  /** the node's own, where rules on the node redirect the pair: its connections are tracked there */
  nodeNetns?: Netns;
  /** why it can be measured no more */
  lost?: string;
}

/** Where all servers of a lab tell their counts. */
export function countsDirectory(lab: LabPaths): string {
  return join(lab.dir, 'counts');
}

export function countsPath(lab: LabPaths, { namespace, name }: PodName): string {
  return join(countsDirectory(lab), `${namespace}-${name}.sock`);
}

/** Resolves when both pods answer. @throws CulvertError CHECK_FAILED, LAB */
export async function openPair(lab: LabPaths, scenario: Scenario, tunnel: TunnelKind): Promise<Pair> {
  const client = openPod(lab, podOf('client', scenario));
  const server = openPod(lab, podOf('server', scenario));
  try {
    const serverAddress = server.place.ips.find((ip) => !ip.includes(':'));
    if (serverAddress === undefined) throw new CulvertError('LAB', `find IPv4 address of ${podKey(server.place.pod)}: it has none`);
    const [loader] = await Promise.all([Loader.start(client.place), answers(client), answers(server)]);
    const tunnels = [...new Set([client, server].map(({ place }) => place.pod.node))].map((node) => join(nodeCgroup(lab, node), 'ztunnel'));
    return {
      ...{ scenario, client, server, loader },
      target: { address: tunnel === 'none' && !isRedirected(scenario) ? '127.0.0.1' : serverAddress, port: ECHO_PORT },
      cpuFiles: [
        ...[dirname(client.place.cgroup), dirname(server.place.cgroup), ...tunnels].map((dir) => join(dir, 'cpu.stat')),
        '/proc/stat',
      ],
    };
  } catch (error) {
    client.netns.close();
    server.netns.close();
    throw error;
  }
}

function openPod(lab: LabPaths, pod: PodName): BenchPod {
  const place = placeOf(lab, podKey(pod));
  const netns = Netns.open(place.netns);
  for (const [path, value] of Object.entries(POD_SYSCTLS)) netns.run({ op: 'sysctl', path, value });
  return {
    place,
    netns,
    uid: readState(lab).pods[podKey(pod)]?.uid ?? '',
    process: readRecord(lab.node(place.pod.node).pidDir, `pod-${pod.namespace}-${pod.name}`),
    counts: countsPath(lab, pod),
  };
}

async function answers(pod: BenchPod): Promise<void> {
  await until(`the server in pod ${podKey(pod.place.pod)}`, START_MS, () => askCounts(pod.counts));
}

export function closePair(pair: Pair): void {
  pair.loader.close();
  pair.client.netns.close();
  pair.server.netns.close();
  pair.nodeNetns?.close();
}

/** What of the pair is no longer there; undefined while all is. */
export function vanished({ client, server }: Pair): string | undefined {
  for (const { place, process, netns } of [client, server]) {
    const pod = `pod ${podKey(place.pod)} vanished`;
    if (!existsSync(place.cgroup)) return `${pod}: its cgroup is gone`;
    if (!isAlive(process)) return `${pod}: its process ended`;
    try {
      using now = Netns.open(place.netns);
      if (now.cookie !== netns.cookie) return `${pod}: another network namespace is at ${place.netns}`;
    } catch (error) {
      if (isCulvert(error, 'NETNS_GONE')) return `${pod}: its network namespace is gone`;
      throw error;
    }
  }
  return undefined;
}

/** Entries of connection tracking in both pods, and on the node if it redirects them; none where the kernel has no conntrack. */
export function conntrackEntries({ client, server, nodeNetns }: Pair): number {
  const tracking = [client.netns, server.netns, ...(nodeNetns === undefined ? [] : [nodeNetns])];
  return tracking.map(countOf).reduce((sum, count) => sum + count, 0);
}

function countOf(netns: Netns): number {
  try {
    return Number(netns.run({ op: 'sysctl-read', path: 'net/netfilter/nf_conntrack_count' }));
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return 0;
    throw error;
  }
}
