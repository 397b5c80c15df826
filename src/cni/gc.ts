/** GC: the runtime says which attachments of the network it still has; the agent lets go of the others that it remembers. */
import { AgentAway, AgentRefused, askGc } from './agent.ts';
import type { PluginContext } from './context.ts';
import { parseNetConf, validAttachments } from './netconf.ts';
import { CniError, cniCode } from './spec.ts';

/** @returns nothing to print @throws CniError */
export async function gc(context: PluginContext): Promise<string> {
  const { name, plugin } = parseNetConf(context.stdin(), 'GC', '1.1.0');
  const valid = validAttachments(context.stdin());
  try {
    const { reaped, kept } = await askGc(plugin.runDir, { network: name, valid }, context.deadlines.gc);
    for (const pod of reaped) context.note(`gc: let go of ${pod}`);
    for (const pod of kept) context.note(`gc: ${pod} is not among the valid attachments, but processes run in it: left alone`);
    return '';
  } catch (error) {
    const cause = error instanceof AgentRefused ? `${error.message} (${error.code})` : undefined;
    if (cause === undefined && !(error instanceof AgentAway)) throw error;
    throw new CniError(
      cniCode.tryAgainLater,
      `collect garbage of network ${name}: ${cause ?? `culvert agent does not answer (${(error as Error).message})`}`,
      'start the culvert agent of this node; it also cleans up by itself when a namespace is gone',
    );
  }
}
