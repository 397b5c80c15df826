/** The agent's parts as their users see them, and every use counted and timed. */
import { isDeepStrictEqual } from 'node:util';
import { CulvertError } from '../../base/errors.ts';
import type { Action } from '../../enrol/states.ts';
import type { Steps, Subject } from '../../enrol/steps.ts';
import type { KubeApi } from '../../kubernetes/api.ts';
import { isKubernetes } from '../../kubernetes/errors.ts';
import type { MeshSnapshot, PodRecord } from '../../sources/source.ts';
import type { ZdsServer } from '../../zds/server.ts';
import type { AgentMetrics } from './metrics.ts';

type PodSteps = Pick<Steps, 'run' | 'adoptListeners'>;

export interface StepsOptions {
  metrics: Pick<AgentMetrics, 'enrolmentDuration' | 'stepFailures'>;
  /** since when the pod has been on its way, ms since 1970; undefined: it is not known */
  since: (uid: string) => number | undefined;
  /** its counters are about to be deleted */
  leaving: (cookie: bigint) => void;
  /** they are */
  left: (cookie: bigint) => void;
}

export function measuredSteps(steps: PodSteps, { metrics, since, leaving, left }: StepsOptions): PodSteps {
  /** by uid, of pods that were never in: the first attempt counts, however many it takes */
  const begun = new Map<string, number>();
  const observe = (until: string, uid: string): void => {
    const from = begun.get(uid);
    if (from !== undefined) metrics.enrolmentDuration.observe({ until }, Math.max(0, Date.now() - from) / 1000);
  };
  return {
    adoptListeners: (pod, pid) => steps.adoptListeners(pod, pid),
    async run(action: Action, pod: Subject, signal: AbortSignal): Promise<void> {
      const from = action === 'prepare' && !begun.has(pod.uid) ? since(pod.uid) : undefined;
      if (from !== undefined) begun.set(pod.uid, from);
      if (action === 'annotateOff') begun.delete(pod.uid);
      const removed = action === 'remove' ? pod.cookie : undefined;
      if (removed !== undefined) leaving(removed);
      try {
        await steps.run(action, pod, signal);
      } catch (error) {
        metrics.stepFailures.inc({ step: action, code: codeOf(error) });
        throw error;
      }
      if (removed !== undefined) left(removed);
      if (action === 'activate') observe('active', pod.uid);
      if (action === 'annotateEnabled') {
        observe('annotated', pod.uid);
        begun.delete(pod.uid);
      }
    },
  };
}

type Zds = Pick<ZdsServer, 'add' | 'del' | 'provide' | 'connections'>;

export function measuredZds(zds: Zds, { zdsRequests }: Pick<AgentMetrics, 'zdsRequests'>): Zds {
  const count = async <T>(request: string, answer: Promise<T>): Promise<T> => {
    try {
      const result = await answer;
      zdsRequests.inc({ request, result: 'ack' });
      return result;
    } catch (error) {
      zdsRequests.inc({ request, result: codeOf(error) });
      throw error;
    }
  };
  return {
    add: (workload) => count('add', zds.add(workload)),
    del: (uid) => count('del', zds.del(uid)),
    provide: (workload) => zds.provide(workload),
    connections: () => zds.connections(),
  };
}

/** @returns the same object's `close`, too */
export function measuredApi<T extends KubeApi>(api: T, metrics: Pick<AgentMetrics, 'kubernetesRequests' | 'kubernetesDuration'>): T {
  const VERBS: readonly string[] = ['get', 'create', 'replace', 'patch', 'remove', 'list', 'watch'] satisfies (keyof KubeApi)[];
  return new Proxy(api, {
    get(target, name) {
      const method = Reflect.get(target, name) as unknown;
      if (typeof name !== 'string' || !VERBS.includes(name) || typeof method !== 'function') return method;
      return async (...args: unknown[]): Promise<unknown> => {
        const verb = name === 'remove' ? 'delete' : name;
        const end = metrics.kubernetesDuration.startTimer({ verb });
        let code = '200';
        try {
          const answer = await (Reflect.apply(method, target, args) as Promise<unknown>);
          if (name === 'get' && answer === undefined) code = '404';
          return answer;
        } catch (error) {
          code = String(isKubernetes(error) ? error.status : 0);
          throw error;
        } finally {
          end();
          metrics.kubernetesRequests.inc({ verb, code });
        }
      };
    },
  });
}

/** Counts what changed between one snapshot and the next, of this node's pods. */
export function countChanges(node: string, { reconcileEvents }: Pick<AgentMetrics, 'reconcileEvents'>): (next: MeshSnapshot) => void {
  let known = new Map<string, PodRecord>();
  return (next) => {
    const mine = new Map([...next.pods].filter(([, record]) => record.node === node));
    const changed = { add: 0, update: 0, delete: 0 };
    for (const [uid, record] of mine) {
      const before = known.get(uid);
      if (before === undefined) changed.add++;
      else if (before !== record && !isDeepStrictEqual(before, record)) changed.update++;
    }
    for (const uid of known.keys()) if (!mine.has(uid)) changed.delete++;
    for (const [type, count] of Object.entries(changed)) reconcileEvents.inc({ type }, count);
    known = mine;
  };
}

function codeOf(error: unknown): string {
  return error instanceof CulvertError ? error.code : 'UNKNOWN';
}
