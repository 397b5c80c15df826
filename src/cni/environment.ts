/** Reads the CNI_* variables. Any fault is code 4, with the variable's name in the message. */
import { CniError, cniCode, type CniEnvironment, type PodArgs } from './spec.ts';

type Environment = Record<string, string | undefined>;

const CONTAINER_ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** Of ADD and CHECK, which must have everything. @throws CniError code 4 */
export function readEnvironment(env: Environment): CniEnvironment {
  const containerId = required(env, 'CNI_CONTAINERID');
  if (!CONTAINER_ID.test(containerId)) throw invalid('CNI_CONTAINERID', `"${containerId}" is not a container id`);
  const netns = required(env, 'CNI_NETNS');
  const ifname = required(env, 'CNI_IFNAME');
  if (ifname.length > 15 || /[/:\s]/.test(ifname) || ifname === '.' || ifname === '..') {
    throw invalid('CNI_IFNAME', `"${ifname}" is not an interface name`);
  }
  return { containerId, netns, ifname, pod: podArgs(env['CNI_ARGS'] ?? '') };
}

/**
 * What a DEL has: runtimes repeat it with empty values long after the pod is gone, so everything may be missing and nothing
 * is an error.
 */
export function readDelEnvironment(env: Environment): CniEnvironment {
  let pod: PodArgs | undefined;
  try {
    pod = podArgs(env['CNI_ARGS'] ?? '');
  } catch {
    pod = undefined;
  }
  return { containerId: env['CNI_CONTAINERID'] ?? '', netns: env['CNI_NETNS'] ?? '', ifname: env['CNI_IFNAME'] ?? '', pod };
}

/** `K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;…`: containerd shuffles the pairs on every call. */
function podArgs(text: string): PodArgs | undefined {
  const pairs = new Map<string, string>();
  for (const pair of text.split(';')) {
    if (pair === '') continue;
    const at = pair.indexOf('=');
    if (at <= 0) throw invalid('CNI_ARGS', `"${pair}" is not a KEY=VALUE pair`);
    pairs.set(pair.slice(0, at), pair.slice(at + 1));
  }
  const name = pairs.get('K8S_POD_NAME') ?? '';
  if (name === '') return undefined;
  const namespace = pairs.get('K8S_POD_NAMESPACE') ?? '';
  if (namespace === '') throw invalid('CNI_ARGS', `K8S_POD_NAME is "${name}" but K8S_POD_NAMESPACE is missing`);
  return { namespace, name, uid: pairs.get('K8S_POD_UID') ?? '' };
}

function required(env: Environment, name: string): string {
  const value = env[name];
  if (value === undefined || value === '') throw invalid(name, 'it is not set');
  return value;
}

function invalid(name: string, cause: string): CniError {
  return new CniError(cniCode.invalidEnvironment, `read ${name}: ${cause}`, 'the container runtime sets the CNI_* variables');
}
