/** The lab that a benchmark measures in: one per tunnel, with every scenario's pods alive at once. */
import { CulvertError } from '../base/errors.ts';
import { takeDown } from '../lab/down.ts';
import type { LabPaths } from '../lab/paths.ts';
import { selfCommand } from '../lab/self.ts';
import { podStatuses } from '../lab/settled.ts';
import type { LabTunnel } from '../lab/tunnels.ts';
import { bringUp } from '../lab/up.ts';
import { Netns } from '../sys/netns.ts';
import type { Witnesses } from './evidence.ts';
import { setUpGeneve, type Geneve } from './geneve/index.ts';
import { isEnrolled, type BenchOptions } from './options.ts';
import { closePair, countsDirectory, countsPath, openPair, POD_SYSCTLS, type Pair } from './pair.ts';
import type { Scenario, TunnelKind } from './report.ts';
import { benchTopology } from './topology.ts';

export interface Setting {
  witnesses: Witnesses;
  pairs: Pair[];
  /** what wraps the packets of the node-level redirect */
  device: Geneve['device'] | undefined;
  /** Everything is taken down. */
  close(): Promise<void>;
}

/** @throws CulvertError LAB; nothing is left then */
export async function setUp(lab: LabPaths, options: BenchOptions, tunnel: TunnelKind, scenarios: readonly Scenario[]): Promise<Setting> {
  const pairs: Pair[] = [];
  let geneve: Geneve | undefined;
  const close = async (): Promise<void> => {
    pairs.forEach(closePair);
    await takeDown(lab);
  };
  try {
    const { text, topology } = benchTopology(scenarios, options.nodes, (pod) => countsPath(lab, pod));
    await bringUp(lab, text, topology, { tunnel: labTunnel(lab, options, tunnel) });
    for (const node of topology.nodes) {
      using netns = Netns.open(lab.node(node).tunnelNetns);
      for (const [path, value] of Object.entries(POD_SYSCTLS)) netns.run({ op: 'sysctl', path, value });
    }
    pairs.push(...(await opened(lab, scenarios, tunnel)));
    const last = pairs.find(({ scenario }) => scenario === 'geneve');
    if (last !== undefined) {
      const { netns: nodeNetns, tunnelNetns } = lab.node('node1');
      last.nodeNetns = Netns.open(nodeNetns);
      geneve = await setUpGeneve({ nodeNetns, tunnelNetns, podNetns: [last.client.place.netns] });
    }
    await checkDrivers(lab, pairs);
    const redirected = geneve === undefined ? undefined : countedBy(geneve);
    return { witnesses: { lab, tunnel, geneve: redirected }, pairs, device: geneve?.device, close };
  } catch (error) {
    await close().catch(() => undefined); // the first error is the one to tell
    throw error;
  }
}

/** All or none. */
async function opened(lab: LabPaths, scenarios: readonly Scenario[], tunnel: TunnelKind): Promise<Pair[]> {
  const opening = await Promise.allSettled(scenarios.map((scenario) => openPair(lab, scenario, tunnel)));
  const pairs = opening.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const failure = opening.find((each) => each.status === 'rejected');
  if (failure === undefined) return pairs;
  pairs.forEach(closePair);
  throw failure.reason;
}

function labTunnel(lab: LabPaths, { ztunnel }: BenchOptions, tunnel: TunnelKind): LabTunnel {
  if (tunnel === 'builtin') return tunnel;
  if (tunnel === 'none') return { argv: [...selfCommand(), 'bench-tunnel', '--counts', countsDirectory(lab)] };
  if (ztunnel === undefined) throw new CulvertError('USAGE', 'use an external tunnel: nobody said which');
  return { ztunnel };
}

/** A pod that another driver serves would be measured under the wrong name. */
async function checkDrivers(lab: LabPaths, pairs: readonly Pair[]): Promise<void> {
  const statuses = await podStatuses(lab);
  for (const pair of pairs) {
    if (!isEnrolled(pair.scenario)) continue;
    const others = statuses
      .filter(({ uid }) => uid === pair.client.uid || uid === pair.server.uid)
      .filter(({ driver }) => driver !== pair.scenario);
    const [other] = others;
    if (other !== undefined) pair.lost = `pod ${other.namespace}/${other.name} is served by driver "${other.driver}": ${other.reason}`;
  }
}

function countedBy(geneve: Geneve): () => Promise<number> {
  return () => geneve.redirected();
}
