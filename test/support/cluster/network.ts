/**
 * How a cluster is wired: every node has a veth to a bridge in the control plane's namespace, which is their gateway; one more veth
 * leads from there to this machine, so that tests reach the API server. Inside, all clusters use the same addresses:
 *
 *   fabric  172.31.0.0/24, fd31::/64        control plane .1, node n .(10 + n)
 *   pods    10.244.n.0/24, fd00:244:0:n::/64 of node n
 *   services 10.96.0.0/16, fd00:96::/112     the API server .1, DNS .10
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import type { Enclosure } from './enclosure.ts';

export const CONTROL_PLANE = '172.31.0.1';
export const API_SERVICE = '10.96.0.1';
export const DNS_SERVICE = '10.96.0.10';
export const API_PORT = 6443;
const CONTROL_PLANE_6 = 'fd31::1';
const ranges = { pods: ['10.244.0.0/16', 'fd00:244::/48'], services: ['10.96.0.0/16', 'fd00:96::/112'] } as const;

/** "10.96.0.0/16,fd00:96::/112" */
export function rangeOf(what: keyof typeof ranges, dualStack: boolean): string {
  return ranges[what].slice(0, dualStack ? 2 : 1).join(',');
}

export function nodeIps(index: number, dualStack: boolean): string[] {
  return [`172.31.0.${10 + index}`, `fd31::${10 + index}`].slice(0, dualStack ? 2 : 1);
}

/** Of the pods of node `index`. */
export function podSubnets(index: number, dualStack: boolean): string[] {
  return [`10.244.${index}.0/24`, `fd00:244:0:${index}::/64`].slice(0, dualStack ? 2 : 1);
}

/** The veth between this machine and a cluster. */
export interface Link {
  /** of the control plane's end */
  address: string;
  close(): Promise<void>;
}

/**
 * Without it a pod's answer to a neighbour on the same bridge goes past the address translation of services. A module that is loaded
 * stays; where it is built in, or modules are not ours to load, this does nothing.
 */
export function filterBridges(): void {
  if (!existsSync('/proc/sys/net/bridge')) spawnSync('modprobe', ['--quiet', 'br_netfilter']);
}

/** The fabric's bridge, and the link to this machine. @param device name of this machine's end */
export async function wireControlPlane(inside: Enclosure, device: string, dualStack: boolean): Promise<Link> {
  await inside.ip([
    'link add fabric type bridge',
    `address add ${CONTROL_PLANE}/24 dev fabric`,
    ...(dualStack ? [`address add ${CONTROL_PLANE_6}/64 dev fabric nodad`] : []),
    'link set fabric up',
  ]);
  return linkTo(inside, device);
}

async function linkTo(inside: Enclosure, device: string): Promise<Link> {
  const { ours, theirs } = freePair();
  const ip = (...args: string[]): unknown => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'host', 'netns', String(inside.pid));
  ip('address', 'add', `${ours}/30`, 'dev', device);
  ip('link', 'set', device, 'up');
  await inside.ip([`address add ${theirs}/30 dev host`, 'link set host up']);
  return { address: theirs, close: () => removeDevice(device) };
}

/** It goes with the namespace at its other end too, but that one is kept by connections that have not ended. One that is gone is fine. */
export async function removeDevice(device: string): Promise<void> {
  await promisify(execFile)('ip', ['link', 'delete', device]).catch((error: unknown) => {
    if (existsSync(`/sys/class/net/${device}`)) throw error;
  });
}

/** Two addresses of 198.18.0.0/15, which is for tests within one network (RFC 2544), in a /30 that nobody has here. */
function freePair(): { ours: string; theirs: string } {
  const taken = new Set(
    Object.values(networkInterfaces())
      .flat()
      .map((entry) => entry?.address),
  );
  for (;;) {
    const start = `198.${18 + randomInt(2)}.${randomInt(256)}`;
    const low = 4 * randomInt(64);
    const [ours, theirs] = [`${start}.${low + 1}`, `${start}.${low + 2}`];
    if (!taken.has(ours)) return { ours, theirs };
  }
}

/** Joins node `index` of `count` to the fabric, with routes to the others' pods. */
export async function wireNode(
  node: Enclosure,
  controlPlane: Enclosure,
  { index, count, dualStack }: { index: number; count: number; dualStack: boolean },
): Promise<void> {
  const [ip, ip6] = nodeIps(index, dualStack);
  const routes = (of: number): string[] => {
    const vias = nodeIps(of, dualStack);
    return podSubnets(of, dualStack).map((subnet, family) => `route add ${subnet} via ${vias[family]!}`);
  };
  const others = Array.from({ length: count }, (_, position) => position + 1).filter((other) => other !== index);
  await controlPlane.ip([
    `link add ${node.name} type veth peer name eth0 netns ${node.pid}`,
    `link set ${node.name} master fabric up`,
    ...routes(index),
  ]);
  await node.ip([
    `address add ${ip!}/24 dev eth0`,
    ...(ip6 === undefined ? [] : [`address add ${ip6}/64 dev eth0 nodad`]),
    'link set eth0 up',
    `route add default via ${CONTROL_PLANE}`,
    ...(ip6 === undefined ? [] : [`route add default via ${CONTROL_PLANE_6}`]),
    ...others.flatMap(routes),
  ]);
}
