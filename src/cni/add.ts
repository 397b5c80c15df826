/**
 * ADD: the pod's interface is there; the agent enrols the pod or says that it needs nothing. prevResult is the answer, and an empty
 * result where no plugin of the same chain came before us.
 */
import type { CniAddRequest } from '../agent/api.ts';
import { AgentRefused, askAdd } from './agent.ts';
import { refused, withoutAgent } from './failures.ts';
import type { PluginContext } from './context.ts';
import { readEnvironment } from './environment.ts';
import { parseChainedConf, type ChainedConf } from './netconf.ts';
import type { CniEnvironment, PodArgs } from './spec.ts';

/** @returns the result's text @throws CniError */
export async function add(context: PluginContext): Promise<string> {
  const environment = readEnvironment(context.env);
  const conf = parseChainedConf(context.stdin(), 'ADD', '0.3.0');
  const { pod } = environment;
  if (pod === undefined) return conf.result; // not a pod of Kubernetes
  try {
    await askAdd(conf.plugin.runDir, requestOf(conf, environment, pod), context.deadlines.add);
  } catch (error) {
    if (error instanceof AgentRefused) throw refused('add', error, pod);
    withoutAgent(context, 'add', error, conf.plugin, pod);
  }
  return conf.result;
}

/** ADD's and CHECK's. */
export function requestOf(conf: ChainedConf, environment: CniEnvironment, pod: PodArgs): CniAddRequest {
  const { containerId, netns, ifname } = environment;
  const ips = (conf.prevResult.ips ?? []).map((ip) => ip.address.replace(/\/.*$/, '')); // without prefix length
  return { network: conf.name, containerId, netns, ifname, podNamespace: pod.namespace, podName: pod.name, podUid: pod.uid, ips };
}
