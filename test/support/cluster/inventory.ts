/** What the mesh has on a node: on the host, and in the network namespaces of pods. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import type { ClusterNode } from './node.ts';

const HOST_DIRECTORIES = ['/sys/fs/bpf/culvert', '/run/culvert', '/run/ztunnel', '/var/lib/culvert'];
const PLUGIN = '/opt/cni/bin/culvert-cni';
const CONF_DIR = '/etc/cni/net.d';

/** Types of the plugins of the configuration that a runtime takes; empty when it is not JSON. */
export function chainOf(node: ClusterNode): string[] {
  try {
    const { plugins } = JSON.parse(readFileSync(node.path(`${CONF_DIR}/10-pods.conflist`), 'utf8')) as { plugins: { type: string }[] };
    return plugins.map(({ type }) => type);
  } catch {
    return [];
  }
}

/** Everything of ours on the host, a line each; empty directories at the top do not count. */
export function hostLeftovers(node: ClusterNode): string[] {
  const files = HOST_DIRECTORIES.flatMap((directory) => {
    const path = node.path(directory);
    return existsSync(path) ? readdirSync(path, { recursive: true }).map((name) => `${directory}/${String(name)}`) : [];
  });
  return [
    ...files,
    ...(existsSync(node.path(PLUGIN)) ? [PLUGIN] : []),
    ...chainOf(node).filter((type) => type.startsWith('culvert')),
    ...readdirSync(node.path(CONF_DIR)).filter((name) => name !== '10-pods.conflist'),
  ];
}

/** Hexadecimal cookies of the network namespaces that have a link. */
export async function pinnedPods(node: ClusterNode): Promise<string[]> {
  return (await readdir(node.path('/sys/fs/bpf/culvert/pods'))).toSorted();
}

const SETTINGS = [
  'ip rule',
  'ip -6 rule',
  'ip route show table 100 2>/dev/null',
  'ip -6 route show table 100 2>/dev/null',
  'for f in ipv4/tcp_fwmark_accept ipv4/fwmark_reflect ipv6/fwmark_reflect; do echo $f $(cat /proc/sys/net/$f); done',
].join('; ');

/** Rules, routes and sysctls of a pod's network namespace, as text. */
export async function netnsSettings(node: ClusterNode, namespace: string, pod: string): Promise<string> {
  const { pid } = await node.sandbox(namespace, pod);
  return node.run(['nsenter', '-t', String(pid), '-n', 'sh', '-c', SETTINGS]);
}
