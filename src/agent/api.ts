/**
 * What the CLI and the plugin ask of an agent, and the paths where they find it. Everything derives from `runDir` and `stateDir`,
 * so that several instances share one machine.
 *
 * Admin socket (SEQPACKET): one JSON request per connection in one packet, with at most one netns fd; the answer is one JSON
 * document cut into packets, each led by a byte: 0 more follows, 1 last. CNI socket: HTTP/1.1 over a unix stream socket.
 */
import type { DatapathState, PodCounters } from '../redirect/driver.ts';

export const paths = {
  cniSocket: (runDir: string): string => `${runDir}/cni.sock`,
  adminSocket: (runDir: string): string => `${runDir}/admin.sock`,
  /** the built-in tunnel's admin, HTTP over a unix socket: GET /config_dump */
  tunnelAdminSocket: (runDir: string): string => `${runDir}/ztunnel-admin.sock`,
  enrolment: (stateDir: string): string => `${stateDir}/enrolment.json`,
} as const;

export interface AgentStatus {
  node: string;
  version: string;
  kernel: string;
  ready: boolean;
  driver: { name: 'ebpf' | 'iptables' | 'nftables'; forced: boolean; reasons: string[] };
  tunnel: { kind: 'builtin' | 'external'; connections: { id: string; since: string }[] };
  pods: { enrolled: number; pending: number; notEnrolled: number };
  source: { kind: string; synced: boolean };
}

export interface PodStatus {
  uid: string;
  namespace: string;
  name: string;
  node: string;
  ips: string[];
  /** decimal, "" while unknown */
  netnsCookie: string;
  state: 'enrolled' | 'pending' | 'not-enrolled';
  datapath: DatapathState;
  /** the sentence why */
  reason: string;
  driver: string;
  /** RFC 3339, of the last change of state */
  since: string;
  counters: PodCounters;
}

export interface VerifyResult {
  node: string;
  pod: string;
  ok: boolean;
  outbound: { ok: boolean; detail: string };
  inbound: { ok: boolean; detail: string };
}

/** `culvert redirect show`: one netns, enrolled through Kubernetes or by hand. */
export interface RedirectStatus {
  netnsCookie: string;
  datapath: DatapathState;
  listeners: { port: number; alive: boolean }[];
  counters: PodCounters;
}

export type AdminRequest =
  | { op: 'status' }
  | { op: 'pods' }
  /** pod: "ns/name"; undefined = all enrolled pods of the node */
  | { op: 'verify'; pod?: string }
  /** these three carry a netns fd */
  | { op: 'redirect-on'; flags?: { dns?: boolean; ingressMode?: boolean } }
  | { op: 'redirect-off' }
  | { op: 'redirect-show' };

export type AdminResponse<T = unknown> =
  { ok: true; result: T } | { ok: false; error: { code: string; message: string; retryable: boolean } };

/** POST /v1/add and POST /v1/del on the CNI socket. 200 with CniAddResponse, else JSON {error:{code,message,retryable}}. */
export interface CniAddRequest {
  containerId: string;
  netns: string;
  ifname: string;
  podNamespace: string;
  podName: string;
  podUid: string;
  /** addresses of prevResult, without prefix length */
  ips: string[];
}
export interface CniAddResponse {
  enrolled: boolean;
  reason: string;
}
export interface CniDelRequest {
  containerId: string;
  netns: string;
  podNamespace: string;
  podName: string;
  podUid: string;
}

/** enrolment.json: what the plugin decides by while the agent is away (design §4). */
export interface EnrolmentFile {
  version: 1;
  node: string;
  writtenAt: string;
  excludedNamespaces: string[];
  /** every namespace known to the source; enrolled says whether its label enrols its pods */
  namespaces: Record<string, { enrolled: boolean }>;
  /** pods of the mesh itself, always let pass */
  ownPods: { namespace: string; namePrefix: string }[];
}

/** Our entry in the conflist, beside `type: "culvert-cni"`. */
export interface PluginConfig {
  runDir: string;
  stateDir: string;
  onAgentDown: 'closed' | 'known' | 'open';
}
