/**
 * STATUS: would an ADD succeed now? By default yes without asking anybody: a no makes the kubelet mark the whole node NotReady, and
 * pods outside the mesh would suffer for an agent that they do not need.
 */
import { AgentAway, AgentRefused, askStatus } from './agent.ts';
import type { PluginContext } from './context.ts';
import { parseNetConf } from './netconf.ts';
import { CniError, cniCode } from './spec.ts';

/** @returns nothing to print @throws CniError 50, 51 */
export async function status(context: PluginContext): Promise<string> {
  const { plugin } = parseNetConf(context.stdin(), 'STATUS', '1.1.0');
  if (plugin.statusPolicy === 'node-ready') return '';
  try {
    const { ready, reason, limited } = await askStatus(plugin.runDir, context.deadlines.status);
    if (ready) return '';
    throw notReady(limited ? cniCode.limitedConnectivity : cniCode.notAvailable, reason);
  } catch (error) {
    if (error instanceof AgentRefused) throw notReady(cniCode.notAvailable, `${error.message} (${error.code})`);
    if (error instanceof AgentAway) throw notReady(cniCode.notAvailable, `culvert agent does not answer (${error.message})`);
    throw error;
  }
}

function notReady(code: number, cause: string): CniError {
  return new CniError(
    code,
    `status: no pod can join the mesh now: ${cause}`,
    'start agent and tunnel of this node ("culvert status" shows both), or set statusPolicy to "node-ready"',
  );
}
