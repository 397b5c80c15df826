/** The verbs of the plugin, from environment and stdin to what belongs on stdout. DEL and VERSION are small enough to be here. */
import { add } from './add.ts';
import { tellDel } from './agent.ts';
import { check } from './check.ts';
import type { PluginContext } from './context.ts';
import { readDelEnvironment } from './environment.ts';
import { gc } from './gc.ts';
import { decode, pluginConfig } from './netconf.ts';
import { CniError, cniCode, currentVersion, supportedVersions } from './spec.ts';
import { status } from './status.ts';

type Verb = (context: PluginContext) => Promise<string> | string;
const VERBS: ReadonlyMap<string, Verb> = new Map<string, Verb>([
  ['ADD', add],
  ['DEL', del],
  ['CHECK', check],
  ['STATUS', status],
  ['GC', gc],
  ['VERSION', version],
]);

export interface Outcome {
  /** for stdout; empty when the verb answers nothing */
  text: string;
  exitCode: 0 | 1;
}

/** Never throws: whatever goes wrong becomes the specification's error object, in the version of the request where that can be read. */
export async function respond(context: PluginContext): Promise<Outcome> {
  const command = context.env['CNI_COMMAND'] ?? '';
  try {
    return { text: await run(context, command), exitCode: 0 };
  } catch (error) {
    const fault = error instanceof CniError ? error : new CniError(cniCode.internal, `run ${command}: ${String(error)}`);
    const { code, message: msg, details } = fault;
    const text = JSON.stringify({ cniVersion: askedVersion(context) ?? currentVersion, code, msg, ...(details === '' ? {} : { details }) });
    return { text, exitCode: 1 };
  }
}

function run(context: PluginContext, command: string): Promise<string> | string {
  const verb = VERBS.get(command);
  if (verb !== undefined) return verb(context);
  throw new CniError(
    cniCode.invalidEnvironment,
    command === '' ? 'read CNI_COMMAND: it is not set' : `read CNI_COMMAND: ${command} is not a verb that this version knows`,
    `it is one of ${[...VERBS.keys()].join(', ')}`,
  );
}

/**
 * Never fails: an error would keep the pod in Terminating, and the agent learns of its end from its source and from the dying
 * netns as well.
 */
async function del(context: PluginContext): Promise<string> {
  try {
    const { containerId, netns, ifname, pod } = readDelEnvironment(context.env);
    const { runDir } = pluginConfig(decode(context.stdin()));
    const request = { containerId, netns, ifname, podNamespace: pod?.namespace ?? '', podName: pod?.name ?? '', podUid: pod?.uid ?? '' };
    await tellDel(runDir, request, context.deadlines.del);
  } catch (error) {
    context.note(`del: ${error instanceof Error ? error.message : String(error)}; the pod is let go nevertheless`);
  }
  return '';
}

function version(context: PluginContext): string {
  return JSON.stringify({ cniVersion: askedVersion(context) ?? currentVersion, supportedVersions });
}

/** The request's, also one that we do not speak. */
function askedVersion(context: PluginContext): string | undefined {
  try {
    const { cniVersion } = decode(context.stdin());
    return typeof cniVersion === 'string' && /^\d+\.\d+\.\d+$/.test(cniVersion) ? cniVersion : undefined;
  } catch {
    return undefined;
  }
}
