/**
 * STATUS: would an ADD succeed now? By default yes without asking anybody: a no makes the kubelet mark the whole node NotReady, and
 * pods outside the mesh would suffer for an agent that they do not need.
 */
import { AgentAway, AgentRefused, askStatus } from './agent.ts';
import type { PluginContext } from './context.ts';
import { parseNetConf } from './netconf.ts';
import { CniError, cniCode } from './spec.ts';

/** @returns nothing to print @throws CniError 50 */
export async function status(context: PluginContext): Promise<string> {
  const { plugin } = parseNetConf(context.stdin(), 'STATUS', '1.1.0');
  if (plugin.statusPolicy === 'node-ready') return '';
  try {
    const { ready, reason } = await askStatus(plugin.runDir, context.deadlines.status);
    if (ready) return '';
    throw notReady(reason);
  } catch (error) {
    if (error instanceof AgentRefused) throw notReady(`${error.message} (${error.code})`);
    if (error instanceof AgentAway) throw notReady(`culvert agent does not answer (${error.message})`);
    throw error;
  }
}

function notReady(cause: string): CniError {
  return new CniError(
    cniCode.notAvailable,
    `status: no pod can join the mesh now: ${cause}`,
    'start the culvert agent of this node, or set statusPolicy to "node-ready"',
  );
}
