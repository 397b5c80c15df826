/** Asks the API server what becomes of the agent's DaemonSet on this node. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { KubeApi, KubeObject } from '../kubernetes/api.ts';
import { isKubernetes } from '../kubernetes/errors.ts';
import { isObject } from './json.ts';
import { runsOn } from './node-affinity.ts';
import type { DaemonSetState } from './shutdown.ts';

export interface DaemonSetQuestion {
  namespace: string;
  name: string;
  /** ours */
  node: string;
  /** after the first attempt; istio-cni: none, in own-config mode two */
  retries: number;
  /** default 1000 */
  retryMs?: number;
}

/** Never throws: what can't be asked is unknown. */
export async function askDaemonSet(api: KubeApi, question: DaemonSetQuestion, log: Logger): Promise<DaemonSetState> {
  for (let left = question.retries; ; left--) {
    try {
      return await ask(api, question);
    } catch (error) {
      if (isKubernetes(error, 401)) return 'unauthorized';
      log.warn({ error: describe(error), retries: left }, 'DaemonSet of the agent not known');
      if (left <= 0) return 'unknown';
    }
    await sleep(question.retryMs ?? 1_000);
  }
}

async function ask(api: KubeApi, { namespace, name, node }: DaemonSetQuestion): Promise<DaemonSetState> {
  const daemonSet = await api.get(`/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}`);
  if (daemonSet === undefined) return 'gone';
  if (daemonSet.metadata.deletionTimestamp !== undefined) return 'deleting';
  const pod = podSpec(daemonSet);
  if (pod['nodeSelector'] === undefined && pod['affinity'] === undefined) return 'present';
  const self = await api.get(`/api/v1/nodes/${node}`);
  if (self === undefined) throw new Error(`get node ${node}: it does not exist`);
  return runsOn(pod, self) ? 'present' : 'elsewhere';
}

function podSpec(daemonSet: KubeObject): Record<string, unknown> {
  const { spec } = daemonSet;
  const template = isObject(spec) ? spec['template'] : undefined;
  const pod = isObject(template) ? template['spec'] : undefined;
  return isObject(pod) ? pod : {};
}
