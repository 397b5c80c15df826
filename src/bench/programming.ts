/** How long it takes to put a redirect into a pod's netns and to take it out, on netns that nobody uses: only the driver's part. */
import { describe } from '../base/errors.ts';
import type { LabPaths } from '../lab/paths.ts';
import { createNetns, ipBatch, removeNetns } from '../lab/network/netns.ts';
import { native } from '../sys/native.ts';
import { Netns } from '../sys/netns.ts';
import { balanced } from './interleave.ts';
import { programmersOf, programmingNode, type Programmer } from './programmers.ts';
import type { Sample, Scenario, TunnelKind } from './report.ts';
import { tunnelDoors } from './stand-in.ts';
import { median } from 'simple-statistics';

/** Netns per programmer and round; a sample is the median over them. */
const NETNS = 8;

export interface Programming {
  lab: LabPaths;
  tunnel: TunnelKind;
  rounds: number;
  signal: AbortSignal;
}

/** Nobody is left programmed, whatever happens. @throws the signal's reason */
export async function measureProgramming(scenarios: readonly Scenario[], { lab, tunnel, rounds, signal }: Programming): Promise<Sample[]> {
  const samples: Sample[] = [];
  const programmers: Programmer[] = [];
  const node = programmingNode(lab);
  try {
    await createNetns(node);
    for (const kind of programmersOf(scenarios)) {
      const { scenario, suffix } = kind;
      const voided = (why: string): void => {
        for (const verb of ['program', 'remove'])
          samples.push({ round: 1, scenario, tunnel, metric: `${verb}${suffix}`, unit: 'ms', value: 0, valid: false, why });
      };
      await kind.open(lab).then(
        (programmer) => programmers.push(programmer),
        (error: unknown) => voided(describe(error)),
      );
    }
    for (let round = 1; round <= rounds; round += 1) {
      for (const programmer of balanced(programmers, round - 1)) {
        samples.push(...(await measureOne(programmer, lab, { round, tunnel })));
        signal.throwIfAborted();
      }
    }
    return samples;
  } finally {
    for (const programmer of programmers) await programmer.close();
    await removeNetns(node);
  }
}

/** In netns of its own: what one leaves in the kernel must not slow another. */
async function measureOne(programmer: Programmer, lab: LabPaths, at: { round: number; tunnel: TunnelKind }): Promise<Sample[]> {
  const { scenario, suffix } = programmer;
  const sample = { ...at, scenario, unit: 'ms' };
  const paths = Array.from({ length: NETNS }, (_, i) => lab.netns(`programming-${scenario}${suffix}-${i}`));
  const listeners: number[] = [];
  try {
    const netns = await Promise.all(paths.map(makeNetns));
    for (const path of netns) listeners.push(...listenAsTunnel(path));
    const values = {
      program: await typical(netns, (path) => programmer.program(path)),
      remove: await typical(netns, (path) => programmer.remove(path)),
    };
    return Object.entries(values).map(([verb, value]) => ({ ...sample, metric: `${verb}${suffix}`, value, valid: true }));
  } catch (error) {
    const why = describe(error);
    return ['program', 'remove'].map((verb) => ({ ...sample, metric: `${verb}${suffix}`, value: 0, valid: false, why }));
  } finally {
    for (const fd of listeners) native.closeFd(fd);
    await Promise.all(paths.map(removeNetns));
  }
}

/**
 * What a tunnel has in a pod's netns when the driver is told to activate. Without a listener for DNS the drivers by rules would leave DNS
 * alone, and have to write their rules anew for it: not what istio-cni's commands do. @returns fds
 */
function listenAsTunnel(path: string): number[] {
  using netns = Netns.open(path);
  return tunnelDoors().map((door) => native.netnsSocket(netns.fd, door));
}

/** The median of what it takes in each. */
async function typical(netns: readonly string[], act: (path: string) => Promise<number>): Promise<number> {
  const times: number[] = [];
  for (const path of netns) times.push(await act(path));
  return median(times);
}

/** As a pod's, as far as a driver looks: one device with an address of each family, and default routes. */
async function makeNetns(path: string, index: number): Promise<string> {
  await createNetns(path);
  await ipBatch(path, [
    'link add eth0 type veth peer name far0',
    'link set far0 up',
    'link set eth0 up',
    `address add 10.245.0.${index + 1}/16 dev eth0`,
    `address add fd00:245::${index + 1}/64 dev eth0 nodad`,
    'route add default dev eth0',
    'route add ::/0 dev eth0',
  ]);
  return path;
}
