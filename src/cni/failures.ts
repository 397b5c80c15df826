/** What becomes of a pod's ADD or CHECK when the agent says no, and when it says nothing. Messages name pod, cause and remedy. */
import { paths, type PluginConfig } from '../agent/api.ts';
import { AgentAway, type AgentRefused } from './agent.ts';
import { decideAway, parseEnrolment } from './away.ts';
import type { PluginContext } from './context.ts';
import { CniError, cniCode, type PodArgs } from './spec.ts';

/** The agent's codes that the specification has a number for. */
const SPEC_CODES: Readonly<Record<string, number>> = { CNI_INPUT: cniCode.invalidConfig };

export function refused(verb: 'add' | 'check', error: AgentRefused, pod: PodArgs): CniError {
  return new CniError(
    SPEC_CODES[error.code] ?? (error.retryable ? cniCode.tryAgainLater : cniCode.agentRefused),
    `${verb} pod ${pod.namespace}/${pod.name}: ${error.message} (${error.code})`,
    error.retryable
      ? 'the runtime tries again by itself; "culvert status" on the node shows agent and tunnel'
      : '"culvert pods" on the node shows the pod and the reason',
  );
}

/**
 * Returns when the pod may pass though nobody was asked, with a note of it.
 * @throws CniError 100 when it may not; `error` itself when it is another one
 */
export function withoutAgent(context: PluginContext, verb: 'add' | 'check', error: unknown, plugin: PluginConfig, pod: PodArgs): void {
  if (!(error instanceof AgentAway)) throw error;
  const verdict = decideAway(plugin.onAgentDown, readSnapshot(context, plugin.stateDir), pod);
  if (!verdict.pass) {
    throw new CniError(
      cniCode.agentAway,
      `${verb} pod ${pod.namespace}/${pod.name}: culvert agent does not answer (${error.message}), and ${verdict.reason}`,
      'start the culvert agent of this node; the runtime tries again by itself',
    );
  }
  context.note(`${verb} pod ${pod.namespace}/${pod.name}: passed without the agent: ${verdict.reason}`);
}

function readSnapshot(context: PluginContext, stateDir: string): ReturnType<typeof parseEnrolment> {
  try {
    return parseEnrolment(context.readFile(paths.enrolment(stateDir)));
  } catch {
    return undefined;
  }
}
