/** What the admin socket answers: each request against the parts that know. */
import { CulvertError } from '../base/errors.ts';
import type { Entry } from '../enrol/registry.ts';
import type { Reconciler } from '../enrol/reconciler.ts';
import type { KubeApi } from '../kubernetes/api.ts';
import type { MeshSnapshot } from '../sources/source.ts';
import { heldNetns } from '../sys/held-netns.ts';
import { native } from '../sys/native.ts';
import { processes } from '../sys/procfs.ts';
import type { AdminHandler } from './admin.ts';
import { podsOf, statusOf, type Known } from './answers.ts';
import type { AgentConfig } from './config.ts';
import { examine } from './doctor.ts';
import { ManualRedirect, tunnelListens } from './redirect.ts';
import { verifyPods } from './verify.ts';

/** @param latest what the source said last */
export function adminRequests(
  known: Known,
  config: AgentConfig,
  api: KubeApi | undefined,
  latest: () => MeshSnapshot | undefined,
): AdminHandler {
  const { driver, reconciler } = known;
  const manual = new ManualRedirect({
    driver,
    cookieOf: (fd) => native.netnsCookie(fd),
    listens: tunnelListens,
    processes: () => processes(config.procRoot),
    held: () => heldNetns(config.procRoot),
  });
  const knownIps = (): string[] => [...(latest()?.pods.values() ?? [])].flatMap((pod) => pod.ips);
  return async (request, netnsFd): Promise<unknown> => {
    switch (request.op) {
      case 'status':
        return statusOf(known);
      case 'pods':
        return podsOf(known);
      case 'doctor':
        return { node: config.node, checks: await examine({ config, api, known }) };
      case 'verify': {
        const chosen =
          request.pod === undefined ? reconciler.registry.all().filter((entry) => entry.pod.captured) : [named(reconciler, request.pod)];
        return verifyPods(chosen, { node: config.node, nodeNetns: config.nodeNetns, driver, native, knownIps });
      }
      case 'redirect-on':
        return manual.on(netnsFd, request.flags ?? {});
      case 'redirect-off':
        return manual.off(netnsFd);
      case 'redirect-show':
        return manual.show(netnsFd);
    }
  };
}

function named(reconciler: Reconciler, pod: string): Entry {
  const [namespace = '', name = ''] = pod.split('/');
  const entry = reconciler.registry.named(namespace, name);
  if (entry === undefined) throw new CulvertError('POD_UNKNOWN', `verify ${pod}: this node has no such pod`);
  return entry;
}
