/** The Kubernetes source of an agent: the pods of its node and all namespaces, and what is written at those pods. */
import type { Logger } from '../../base/log.ts';
import type { KubeApi } from '../../kubernetes/api.ts';
import type { Source } from '../source.ts';
import { PodAnnotations } from './annotations.ts';
import { PodEvents } from './events.ts';
import { Mirror } from './mirror.ts';

export interface KubernetesSourceOptions {
  /** whoever made it closes it */
  api: KubeApi;
  /** whose pods */
  node: string;
  log: Logger;
}

/**
 * The API is watched while somebody watches the source; each listener gets every snapshot, the last one first. While the API is away
 * the last one stays, and it is asked again for ever.
 */
export function createKubernetesSource({ api, node, log }: KubernetesSourceOptions): Source {
  const listeners = new Set<{ onSnapshot: Parameters<Source['watch']>[0]; onError: Parameters<Source['watch']>[1] }>();
  const annotations = new PodAnnotations({ api, observed: (pod) => mirror?.pod(pod), log });
  const events = new PodEvents({ api, node, log });
  let mirror: Mirror | undefined;

  const open = (): Mirror => {
    const opened = new Mirror(
      { api, node, log },
      {
        onSnapshot: (snapshot) => listeners.forEach(({ onSnapshot }) => onSnapshot(snapshot)),
        onError: (error) => listeners.forEach(({ onError }) => onError(error)),
        onVersion: (uid, version) => annotations.observed(uid, version),
      },
    );
    opened.start();
    return opened;
  };

  return {
    kind: 'kubernetes',
    keepsAnnotations: true,
    watch(onSnapshot, onError) {
      const listener = { onSnapshot, onError };
      listeners.add(listener);
      mirror ??= open();
      const known = mirror.last;
      if (known !== undefined) setImmediate(() => listeners.has(listener) && mirror?.last === known && onSnapshot(known));
      return {
        close() {
          listeners.delete(listener);
          if (listeners.size > 0) return;
          mirror?.close();
          mirror = undefined;
        },
      };
    },
    synced: () => mirror?.last !== undefined,
    annotate: (pod, key, value) => annotations.write(pod, key, value),
    event: (pod, event) => events.add(pod, event),
    close() {
      annotations.close();
      events.close();
    },
  };
}
