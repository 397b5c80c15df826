/** When a lab has come to rest: agents have no pod half-way, and every tunnel knows which pods are captured. */
import type { PodStatus } from '../agent/api.ts';
import { ask } from '../cli/admin.ts';
import { tunnelDumps } from '../cli/tunnel-admin.ts';
import { CulvertError } from '../base/errors.ts';
import { nodesOf } from './down.ts';
import type { LabPaths } from './paths.ts';
import { readState } from './state.ts';
import { podKey } from './topology.ts';
import { readTunnel } from './tunnels.ts';
import { until } from './until.ts';

export interface SettleOptions {
  /** content with pods on their way out: their new connections are direct already, open ones go on */
  draining?: boolean;
  timeoutMs?: number;
}

/** All pods of all nodes as their agents see them. */
export async function podStatuses(lab: LabPaths): Promise<PodStatus[]> {
  return (await Promise.all(nodesOf(lab).map((node) => ask<PodStatus[]>({ node, runDir: lab.node(node).runDir }, { op: 'pods' })))).flat();
}

/**
 * Waits until every pod is in the mesh or out of it as `wanted` says, and all tunnels send to it accordingly: a connection made
 * before that could still take the way of before. A tunnel of which nothing is known but ZDS is not asked.
 * @param wanted undefined: whatever the agents decided
 */
export async function settle(lab: LabPaths, wanted?: (pod: PodStatus) => boolean, options: SettleOptions = {}): Promise<PodStatus[]> {
  const tunnel = readTunnel(lab);
  const asked = typeof tunnel === 'object' && 'argv' in tunnel ? [] : nodesOf(lab);
  return until('the mesh to settle', options.timeoutMs ?? 15_000, async () => {
    const pods = await podStatuses(lab);
    const missing = Object.entries(readState(lab).pods).filter(([, { uid }]) => !pods.some((pod) => pod.uid === uid));
    if (missing.length > 0) throw new CulvertError('CHECK_FAILED', `no agent knows yet of ${missing.map(([key]) => key).join(', ')}`);
    const moving = pods.filter(
      (pod) => !atRest(pod, options.draining === true) || (wanted !== undefined && (pod.state === 'enrolled') !== wanted(pod)),
    );
    if (moving.length > 0)
      throw new CulvertError(
        'CHECK_FAILED',
        moving.map((pod) => `${pod.namespace}/${pod.name} is ${pod.state} and its datapath ${pod.datapath}: ${pod.reason}`).join('; '),
      );
    for (const node of asked) {
      const known = await capturedFor(lab, node);
      const differs = pods.find((pod) => (pod.state === 'enrolled') !== known.has(podKey(pod)));
      if (differs !== undefined)
        throw new CulvertError('CHECK_FAILED', `the tunnel of ${node} does not know yet of ${differs.namespace}/${differs.name}`);
    }
    return pods;
  });
}

function atRest(pod: PodStatus, draining: boolean): boolean {
  if (pod.state === 'enrolled') return pod.datapath === 'active';
  return pod.state === 'not-enrolled' && (pod.datapath === 'none' || (draining && pod.datapath === 'draining'));
}

/** "namespace/name" of the pods to which this node's tunnel sends HBONE; uids are not the same in every source. */
async function capturedFor(lab: LabPaths, node: string): Promise<Set<string>> {
  const newest = (await tunnelDumps({ node, runDir: lab.node(node).runDir })).at(-1);
  return new Set((newest?.workloads ?? []).filter(({ protocol }) => protocol === 'HBONE').map(podKey));
}
