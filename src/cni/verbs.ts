/** The verbs of the plugin: ADD, DEL and VERSION, from environment and stdin to what belongs on stdout. */
import { paths } from '../agent/api.ts';
import { AgentAway, AgentRefused, askAdd, tellDel } from './agent.ts';
import { decideAway, parseEnrolment } from './away.ts';
import { readAddEnvironment, readDelEnvironment } from './environment.ts';
import { decode, parseNetConf, pluginConfig, type NetConf } from './netconf.ts';
import { CniError, cniCode, currentVersion, supportedVersions, type CniEnvironment, type PodArgs, type PrevResult } from './spec.ts';

/** What a verb needs of its process, so that tests run it without one. */
export interface PluginContext {
  env: Record<string, string | undefined>;
  stdin: () => string;
  readFile: (path: string) => string;
  /** one line for the runtime's log */
  note: (line: string) => void;
  /** Milliseconds that ADD and DEL may wait for the agent. */
  deadlines: { add: number; del: number };
}

/** The agent's own deadline towards the tunnel is 5 s, so 10 s leave it time to say no. */
export const defaultDeadlines = { add: 10_000, del: 2_000 };

/** @returns the text for stdout @throws CniError */
export async function runVerb(context: PluginContext): Promise<string> {
  const command = context.env['CNI_COMMAND'];
  switch (command) {
    case 'ADD':
      return add(context);
    case 'DEL':
      return del(context);
    case 'VERSION':
      return version(context);
    default:
      throw new CniError(
        cniCode.invalidEnvironment,
        command === undefined || command === ''
          ? 'read CNI_COMMAND: it is not set'
          : `read CNI_COMMAND: ${command} is not supported by this version`,
        'this version answers ADD, DEL and VERSION',
      );
  }
}

async function add(context: PluginContext): Promise<string> {
  const environment = readAddEnvironment(context.env);
  const conf = parseNetConf(context.stdin());
  const { prevResult } = conf;
  if (prevResult === undefined) {
    throw new CniError(
      cniCode.invalidConfig,
      'read prevResult: there is none, so no plugin before culvert-cni gave the pod its interface',
      "culvert-cni only joins an existing network: put it behind the cluster's own plugin in the same conflist",
    );
  }
  if (environment.pod !== undefined) await enrol(context, conf, environment, environment.pod, addressesOf(prevResult));
  return JSON.stringify({ ...prevResult, cniVersion: conf.cniVersion });
}

async function enrol(context: PluginContext, conf: NetConf, environment: CniEnvironment, pod: PodArgs, ips: string[]): Promise<void> {
  const { containerId, netns, ifname } = environment;
  const { plugin } = conf;
  try {
    const request = { containerId, netns, ifname, podNamespace: pod.namespace, podName: pod.name, podUid: pod.uid, ips };
    await askAdd(plugin.runDir, request, context.deadlines.add);
  } catch (error) {
    if (error instanceof AgentRefused) throw refused(error, pod);
    if (!(error instanceof AgentAway)) throw error;
    const verdict = decideAway(plugin.onAgentDown, readSnapshot(context, plugin.stateDir), pod);
    if (!verdict.pass) {
      throw new CniError(
        cniCode.agentAway,
        `add pod ${pod.namespace}/${pod.name}: culvert agent does not answer (${error.message}), and ${verdict.reason}`,
        'start the culvert agent of this node; the runtime tries again by itself',
      );
    }
    context.note(`add pod ${pod.namespace}/${pod.name}: passed without the agent: ${verdict.reason}`);
  }
}

function refused(error: AgentRefused, pod: PodArgs): CniError {
  return new CniError(
    error.retryable ? cniCode.enrolFailed : cniCode.agentRefused,
    `add pod ${pod.namespace}/${pod.name}: ${error.message} (${error.code})`,
    error.retryable
      ? 'the runtime tries again by itself; "culvert status" on the node shows agent and tunnel'
      : '"culvert pods" on the node shows the pod and the reason',
  );
}

function readSnapshot(context: PluginContext, stateDir: string): ReturnType<typeof parseEnrolment> {
  try {
    return parseEnrolment(context.readFile(paths.enrolment(stateDir)));
  } catch {
    return undefined;
  }
}

/**
 * Never fails: an error would keep the pod in Terminating, and the agent learns of its end from its source and from the dying
 * netns as well.
 */
async function del(context: PluginContext): Promise<string> {
  try {
    const { containerId, netns, pod } = readDelEnvironment(context.env);
    const { runDir } = pluginConfig(decode(context.stdin()));
    const request = { containerId, netns, podNamespace: pod?.namespace ?? '', podName: pod?.name ?? '', podUid: pod?.uid ?? '' };
    await tellDel(runDir, request, context.deadlines.del);
  } catch (error) {
    context.note(`del: ${error instanceof Error ? error.message : String(error)}; the pod is let go nevertheless`);
  }
  return '';
}

function version(context: PluginContext): string {
  let asked: unknown;
  try {
    asked = decode(context.stdin())['cniVersion'];
  } catch {
    asked = undefined;
  }
  return JSON.stringify({ cniVersion: typeof asked === 'string' ? asked : currentVersion, supportedVersions });
}

/** Addresses of prevResult without their prefix length. */
export function addressesOf(result: PrevResult): string[] {
  return (result.ips ?? []).map((ip) => ip.address.replace(/\/.*$/, ''));
}
