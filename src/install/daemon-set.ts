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

/**
 * Too little to give up a node by: an API server that has just started forbids what it has not read the roles for yet, and one that
 * cannot look up an account (etcd is slow) does not know it (401).
 */
const REFUSED_RETRIES = 2;

/**
 * Never throws: what can't be asked is unknown. A 401 or 403 that stays is an answer: `helm uninstall` deletes the DaemonSet first,
 * then role and binding, then the account, and the pods are told to stop after all of them. (istio-cni takes a 403 for silence.)
 */
export async function askDaemonSet(api: KubeApi, question: DaemonSetQuestion, log: Logger): Promise<DaemonSetState> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask(api, question);
    } catch (error) {
      const refused = error instanceof RoleGone || isKubernetes(error, 401);
      const retries = (refused ? Math.max(question.retries, REFUSED_RETRIES) : question.retries) - attempt;
      log.warn({ error: describe(error), retries }, 'DaemonSet of the agent not known');
      if (retries <= 0) return refused ? 'unauthorized' : 'unknown';
    }
    await sleep(question.retryMs ?? 1_000);
  }
}

class RoleGone extends Error {}

async function ask(api: KubeApi, { namespace, name, node }: DaemonSetQuestion): Promise<DaemonSetState> {
  const daemonSet = await api.get(`/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}`).catch((error: unknown) => {
    throw isKubernetes(error, 403) ? new RoleGone(describe(error), { cause: error }) : error;
  });
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
