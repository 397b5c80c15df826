/** The agent told to stop. Every step that fails is said and the next one taken: what can go goes. */
import { describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { Reconciler } from '../enrol/reconciler.ts';
import { uninstall } from '../install/host.ts';
import type { Installation } from '../install/installation.ts';
import type { KubeApi } from '../kubernetes/api.ts';
import type { Entry } from '../enrol/registry.ts';
import type { Subject } from '../enrol/steps.ts';
import { uninstallEbpf } from '../redirect/ebpf/index.ts';
import { istioAsHeir } from '../redirect/istio-cni/index.ts';
import { Netns } from '../sys/netns.ts';
import type { AgentConfig } from './config.ts';
import { knownInstanceId } from './instance.ts';
import { removeFiles } from './leftovers.ts';
import { NETFILTER_KINDS, removeIstioFromNode, removeNetfilter } from './open-drivers.ts';
import { decideFarewell, LEAVE_DEADLINE_MS, LEAVE_GRACE_MS } from './shutdown.ts';

/** Captured connections of netns that the pods' own leaving did not reach. */
const REMOVE_DEADLINE_MS = 500;

export interface Stopping {
  config: AgentConfig;
  log: Logger;
  api: KubeApi | undefined;
  reconciler: Reconciler;
  installation: Installation | undefined;
  /** set: annotations are written if possible, and no pod waits for them */
  given: { up: boolean };
  /** closes every door, the driver's too */
  close: () => Promise<void>;
}

/** @returns false when something was left over that should not */
export async function stopAgent({ config, log, api, reconciler, installation, given, close }: Stopping): Promise<boolean> {
  const { plugin, datapath, daemonSet } = await decideFarewell(config, api, log);
  const failed: string[] = [];
  const step = async (what: string, act: () => unknown): Promise<void> => {
    try {
      await act();
    } catch (error) {
      failed.push(what);
      log.error({ error: describe(error) }, `${what} failed`);
    }
  };
  log.info({ daemonSet, plugin, datapath }, 'agent stops');
  await step('end of the installation', () => installation?.close()); // it would repair what is taken off now
  if (plugin === 'clean up' && installation !== undefined) {
    await step('uninstalling the plugin', async () => {
      const removed = await uninstall({ binDir: config.cniBinDir, confDir: config.cniConfDir });
      log.info(removed, 'plugin uninstalled');
    });
  }
  if (datapath === 'leave') {
    await close();
    return failed.length === 0;
  }
  given.up = true;
  const heir = config.istioRules === 'keep' ? istioAsHeir : undefined;
  await step('taking pods out of the mesh', async () => {
    const stays = (pod: Subject): boolean => heir !== undefined && pod.netns !== undefined && heir.serves(Netns.adopt(pod.netns.fd));
    const handedOver = reconciler.registry.all().filter(({ pod }) => stays(pod.subject));
    if (handedOver.length > 0) log.info({ pods: handedOver.map(nameOf) }, "pods have istio-cni's rules again: they are handed over to it");
    const still = await reconciler.leave(LEAVE_GRACE_MS, LEAVE_DEADLINE_MS, handedOver);
    const names = still.map(nameOf);
    if (names.length > 0) log.warn({ pods: names }, 'pods did not leave in time, their redirect is taken off at once');
  });
  await step('closing', close);
  await step('taking the datapath off the node', async () => {
    const instance = knownInstanceId(config.stateDir);
    const { pinDir, procRoot } = config;
    await uninstallEbpf({ pinDir, instance, procRoot, deadlineMs: REMOVE_DEADLINE_MS, force: true, log, ...(heir && { heir }) });
    for (const kind of NETFILTER_KINDS) await removeNetfilter(config, kind, REMOVE_DEADLINE_MS, log);
  });
  if (heir === undefined)
    await step('taking off what istio-cni left on the node', () =>
      removeIstioFromNode(config, config.source === 'kubernetes', REMOVE_DEADLINE_MS, log),
    ); // what must stay is said, and no failure of ours
  await step('removing files', () => removeFiles(config, heir !== undefined));
  if (failed.length === 0) log.info('nothing of this agent is left on the node');
  return failed.length === 0;
}

function nameOf({ pod: { subject } }: Entry): string {
  return `${subject.namespace}/${subject.name}`;
}
