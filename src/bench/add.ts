/**
 * How long one run of culvert-cni takes to ADD a pod: outside the mesh, and in it with each driver. The plugins before it in the chain
 * are not in the time; the agent's and the tunnel's part is.
 */
import { randomUUID } from 'node:crypto';
import { CulvertError, describe } from '../base/errors.ts';
import type { LabPaths } from '../lab/paths.ts';
import { addNetwork, delNetwork } from '../lab/chain/runtime.ts';
import { createNetns, removeNetns } from '../lab/network/netns.ts';
import { chainOf, newSandbox } from '../lab/pods.ts';
import { setPod } from '../lab/state.ts';
import { podKey, readTopology } from '../lab/topology.ts';
import { balanced } from './interleave.ts';
import type { Sample, Scenario, TunnelKind } from './report.ts';
import { extraPod } from './topology.ts';

export interface Adding {
  lab: LabPaths;
  tunnel: TunnelKind;
  rounds: number;
  signal: AbortSignal;
}

/** @param scenarios whose extra pods (`extraPod`) are in the lab's topology and not started */
export async function measureAdd(scenarios: readonly Scenario[], { lab, tunnel, rounds, signal }: Adding): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    for (const scenario of balanced(scenarios, round - 1)) {
      const sample = { round, scenario, tunnel, metric: 'add', unit: 'ms' };
      try {
        samples.push({ ...sample, value: await addOnce(lab, podKey(extraPod(scenario))), valid: true });
      } catch (error) {
        samples.push({ ...sample, value: 0, valid: false, why: describe(error) });
      }
      signal.throwIfAborted();
    }
  }
  return samples;
}

/** @returns milliseconds @throws PluginFailed */
async function addOnce(lab: LabPaths, key: string): Promise<number> {
  const pod = readTopology(lab.mesh).topology.pods.find((each) => podKey(each) === key);
  if (pod === undefined) throw new CulvertError('LAB', `add pod ${key}: it is not in the topology`);
  const netns = lab.podNetns(pod.namespace, pod.name);
  const uid = randomUUID();
  const sandbox = newSandbox(pod, uid, netns);
  const chain = chainOf(lab, pod.node);
  const { plugins } = chain.conflist;
  const ours = plugins.filter(({ type }) => type === 'culvert-cni');
  const first = { ...chain, conflist: { ...chain.conflist, plugins: plugins.filter(({ type }) => type !== 'culvert-cni') } };
  await createNetns(netns);
  try {
    setPod(lab, key, { uid, ips: [], netns, phase: 'Pending' });
    const prevResult = await addNetwork(first, sandbox);
    const last = { ...chain, conflist: { ...chain.conflist, plugins: ours.map((plugin) => ({ ...plugin, prevResult })) } };
    const begin = performance.now();
    await addNetwork(last, sandbox);
    return performance.now() - begin;
  } finally {
    await delNetwork(chain, sandbox).catch(() => undefined); // the lab goes as a whole; the first error is the one to tell
    await removeNetns(netns);
    setPod(lab, key, undefined);
  }
}
