/**
 * What an agent that is told to stop leaves on its node. An upgrade or a reboot must cut nothing: everything stays pinned. When nobody
 * comes after it, everything goes: the plugin first, so that new pods are not held up, then pod after pod, programs and maps last.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { askDaemonSet } from '../install/daemon-set.ts';
import { shutdownDecision, type DaemonSetState } from '../install/shutdown.ts';
import type { KubeApi } from '../kubernetes/api.ts';
import type { Source } from '../sources/source.ts';
import type { AgentConfig } from './config.ts';

/** Of the pod's 30 s of grace. */
const ASK_MS = 5000;
/** For pods to leave as by a label; then for those to leave that took longer. */
export const LEAVE_GRACE_MS = 12_000;
export const LEAVE_DEADLINE_MS = 18_000;
/** An API server that is away must not hold a pod that leaves. */
const ANNOTATE_MS = 3000;

export interface Farewell {
  /** executable and entry in the network configuration */
  plugin: 'leave' | 'clean up';
  /** pods, programs, maps and files */
  datapath: 'leave' | 'clean up';
  daemonSet: DaemonSetState | 'not asked';
}

type Question = Pick<AgentConfig, 'node' | 'daemonSet' | 'ownConfig' | 'safeUpgrade'>;

/** Never throws. Without a DaemonSet to ask for, somebody else decides about what is pinned: it stays. */
export async function decideFarewell(config: Question, api: KubeApi | undefined, log: Logger): Promise<Farewell> {
  const { safeUpgrade } = config;
  if (!safeUpgrade) return { plugin: 'clean up', datapath: 'clean up', daemonSet: 'not asked' };
  if (config.daemonSet === undefined || api === undefined) return { plugin: 'leave', datapath: 'leave', daemonSet: 'not asked' };
  const ownConfig = config.ownConfig !== false;
  const [namespace = '', name = ''] = config.daemonSet.split('/');
  const stop = new AbortController();
  const daemonSet = await Promise.race([
    askDaemonSet(api, { namespace, name, node: config.node, retries: ownConfig ? 2 : 0 }, log),
    sleep<DaemonSetState>(ASK_MS, 'unknown', { signal: stop.signal }),
  ]).finally(() => stop.abort());
  const plugin = shutdownDecision({ daemonSet, ownConfig, safeUpgrade });
  // Silence is no reason to let the traffic of enrolled pods go in the clear.
  return { plugin, datapath: daemonSet === 'unknown' ? 'leave' : plugin, daemonSet };
}

/** While the node is given up: an account that went with the release, or an API server that is away, keeps no pod in the mesh. */
export function annotateIfPossible(annotate: Source['annotate'], log: Logger): Source['annotate'] {
  return async (pod, key, value) => {
    const stop = new AbortController();
    try {
      await Promise.race([
        annotate(pod, key, value),
        sleep(ANNOTATE_MS, undefined, { signal: stop.signal }).then(() => {
          throw new Error(`no answer within ${ANNOTATE_MS / 1000} s`);
        }),
      ]);
    } catch (error) {
      log.warn(
        { pod: `${pod.namespace}/${pod.name}`, annotation: key, error: describe(error) },
        'annotation not written; going on without',
      );
    } finally {
      stop.abort();
    }
  };
}
