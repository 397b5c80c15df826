/**
 * CHECK: is the pod's datapath as ADD left it? The agent reads link, maps, rules and listeners; no connection is opened, because a
 * runtime may ask often and of every pod (`culvert verify` does that). A pod outside the mesh passes.
 */
import { AgentRefused, askCheck } from './agent.ts';
import { requestOf } from './add.ts';
import type { PluginContext } from './context.ts';
import { readEnvironment } from './environment.ts';
import { refused, withoutAgent } from './failures.ts';
import { parseChainedConf } from './netconf.ts';
import { CniError, cniCode } from './spec.ts';

/** @returns nothing to print @throws CniError */
export async function check(context: PluginContext): Promise<string> {
  const environment = readEnvironment(context.env);
  const conf = parseChainedConf(context.stdin(), 'CHECK', '0.4.0');
  const { containerId, netns, pod } = environment;
  if (!context.exists(netns)) {
    throw new CniError(
      cniCode.unknownContainer,
      `check container ${containerId}: its network namespace ${netns} does not exist`,
      'the sandbox is gone; the runtime makes a new one',
    );
  }
  if (pod === undefined) return '';
  try {
    const { faults } = await askCheck(conf.plugin.runDir, requestOf(conf, environment, pod), context.deadlines.check);
    if (faults.length === 0) return '';
    throw new CniError(
      cniCode.checkFailed,
      `check pod ${pod.namespace}/${pod.name}: ${faults.join('; ')}`,
      '"culvert verify" on the node tries real connections; starting the agent again repairs links, rules and maps',
    );
  } catch (error) {
    if (error instanceof CniError) throw error;
    if (error instanceof AgentRefused) throw refused('check', error, pod);
    withoutAgent(context, 'check', error, conf.plugin, pod);
    return '';
  }
}
