/** Reads the counters that prove which path a client's connections took: of the redirect, the tunnel and the server. */
import { readFileSync, truncateSync } from 'node:fs';
import type { LabPaths } from '../lab/paths.ts';
import { podStatuses } from '../lab/settled.ts';
import { askCounts, type Counts } from './counts.ts';
import { isEnrolled, isRedirected } from './options.ts';
import { countsDirectory, type Pair } from './pair.ts';
import type { TunnelKind } from './report.ts';
import { OWN_NETNS, standInCounts } from './stand-in.ts';
import type { Evidence, Path } from './validity.ts';

export interface Witnesses {
  lab: LabPaths;
  tunnel: TunnelKind;
  /** what the rules of the node-level redirect counted */
  geneve: (() => Promise<number>) | undefined;
}

export function pathOf({ scenario }: Pair, tunnel: TunnelKind): Path {
  const redirected = isRedirected(scenario);
  return { redirected, server: !redirected || tunnel !== 'none' };
}

/** All counters as they are now. A log of the tunnel starts anew, or it would fill the memory that it lies in. */
export async function readEvidence(witnesses: Witnesses, pair: Pair): Promise<Evidence> {
  const [redirected, stoodIn, echoed] = await Promise.all([
    redirectedOf(witnesses, pair),
    witnesses.tunnel === 'none' ? standIn(witnesses, pair) : undefined,
    askCounts((pair.target.address === '127.0.0.1' ? pair.client : pair.server).counts),
  ]);
  const server = echoed['echo'] ?? { accepted: 0, bytes: 0 };
  const path = pathOf(pair, witnesses.tunnel);
  return {
    redirected,
    tunnel: stoodIn?.accepted ?? logged(witnesses.lab, pair),
    server: server.accepted,
    received: path.server ? server.bytes : (stoodIn?.bytes ?? 0),
  };
}

export function forgetLog({ lab, tunnel }: Witnesses, pair: Pair): void {
  if (tunnel !== 'none') truncateSync(tunnelLog(lab, pair));
}

async function redirectedOf({ lab, geneve }: Witnesses, { scenario, client }: Pair): Promise<number> {
  if (scenario === 'geneve') return (await geneve?.()) ?? 0;
  const status = (await podStatuses(lab)).find((pod) => pod.uid === client.uid);
  if (isEnrolled(scenario) && status === undefined) return 0;
  return status?.counters.outboundRedirected ?? 0;
}

/** The node-level redirect brings everybody's connections to one place, but only one scenario has it. */
async function standIn({ lab }: Witnesses, { scenario, client }: Pair): Promise<Counts> {
  const counts = await askCounts(standInCounts(countsDirectory(lab), client.place.pod.node));
  return counts[scenario === 'geneve' ? OWN_NETNS : client.uid] ?? { accepted: 0, bytes: 0 };
}

/** A redirected connection that a tunnel let through in the clear would be cheaper, and not what is compared: it does not count. */
function logged(lab: LabPaths, pair: Pair): number {
  const log = readFileSync(tunnelLog(lab, pair), 'utf8');
  return connectionsIn(log, pair.client.place.pod.name, { hbone: isRedirected(pair.scenario) });
}

/** Lines of a tunnel's access log of connections that a pod opened; both tunnels write the same fields. */
export function connectionsIn(log: string, pod: string, { hbone }: { hbone: boolean }): number {
  const parts = [`"src.workload":"${pod}"`, '"direction":"outbound"', ...(hbone ? ['"dst.hbone_addr":'] : [])];
  return log.split('\n').filter((line) => parts.every((part) => line.includes(part))).length;
}

function tunnelLog(lab: LabPaths, pair: Pair): string {
  return lab.node(pair.client.place.pod.node).tunnels.ztunnel.log;
}

export function difference(after: Evidence, before: Evidence): Evidence {
  const fields = ['redirected', 'tunnel', 'server', 'received'] as const;
  return Object.fromEntries(fields.map((field) => [field, after[field] - before[field]])) as unknown as Evidence;
}
