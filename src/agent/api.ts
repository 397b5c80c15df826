/**
 * What the CLI and the plugin ask of an agent, and the paths where they find it. Everything derives from `runDir` and `stateDir`,
 * so that several instances share one machine.
 *
 * Admin socket (SEQPACKET): one JSON request per connection in one packet, with at most one netns fd; the answer is one JSON
 * document cut into packets, each led by a byte: 0 more follows, 1 last. CNI socket: HTTP/1.1 over a unix stream socket.
 */
import type { DatapathState, DriverName, PodCounters } from '../redirect/driver.ts';

export const paths = {
  cniSocket: (runDir: string): string => `${runDir}/cni.sock`,
  adminSocket: (runDir: string): string => `${runDir}/admin.sock`,
  /** the built-in tunnel's admin, HTTP over a unix socket: GET /config_dump */
  tunnelAdminSocket: (runDir: string): string => `${runDir}/ztunnel-admin.sock`,
  enrolment: (stateDir: string): string => `${stateDir}/enrolment.json`,
  /** one file per sandbox that the plugin announced; beside the sockets, because a reboot ends every sandbox */
  attachments: (runDir: string): string => `${runDir}/attachments`,
} as const;

export interface AgentStatus {
  node: string;
  version: string;
  kernel: string;
  ready: boolean;
  driver: { name: DriverName; forced: boolean; reasons: string[] };
  /** pid: as the agent sees it, 0 in another pid namespace */
  tunnel: { kind: 'builtin' | 'external'; connections: { id: string; pid: number; since: string }[] };
  pods: { enrolled: number; pending: number; notEnrolled: number };
  source: { kind: string; synced: boolean };
  /** of the CNI plugin; absent when somebody else does it. file: the configuration that has our entry, "" when none has */
  install?: { ready: boolean; file: string; reason: string };
  /** what is not as it should be, one sentence each */
  problems: string[];
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
  /** what does not hinder it but should be seen, one sentence each; absent when there is nothing */
  warnings?: string[];
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
  | { op: 'doctor' }
  /** pod: "ns/name"; undefined = all enrolled pods of the node */
  | { op: 'verify'; pod?: string }
  /** these three carry a netns fd */
  | { op: 'redirect-on'; flags?: { dns?: boolean; ingressMode?: boolean } }
  | { op: 'redirect-off' }
  | { op: 'redirect-show' };

export type AdminResponse<T = unknown> =
  { ok: true; result: T } | { ok: false; error: { code: string; message: string; retryable: boolean } };

/**
 * The CNI socket: POST /v1/add, /v1/del, /v1/check, /v1/gc and /v1/status, a JSON object each. 200 with the answer named below,
 * else JSON {error:{code,message,retryable}}.
 */
export interface CniAddRequest {
  /** name of the network, the conflist's */
  network: string;
  containerId: string;
  netns: string;
  ifname: string;
  podNamespace: string;
  podName: string;
  podUid: string;
  /** addresses of prevResult, without prefix length; none: no plugin came before us, and the agent looks for itself */
  ips: string[];
}
export interface CniAddResponse {
  enrolled: boolean;
  reason: string;
}
/** Runtimes repeat DEL with nothing but the container id: everything else may be "". Answered with {}. */
export interface CniDelRequest {
  containerId: string;
  netns: string;
  ifname: string;
  podNamespace: string;
  podName: string;
  podUid: string;
}
export type CniCheckRequest = CniAddRequest;
export interface CniCheckResponse extends CniAddResponse {
  /** what is not as it should be, one sentence each */
  faults: string[];
}
export interface CniGcRequest {
  network: string;
  /** whatever else the agent remembers of this network may go */
  valid: { containerId: string; ifname: string }[];
}
export interface CniGcResponse {
  /** "namespace/name containerId" of what was let go */
  reaped: string[];
  /** the same of those with a process in their netns: they live, whatever the runtime says */
  kept: string[];
}
export interface CniStatusResponse {
  ready: boolean;
  /** why not; "" when ready */
  reason: string;
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
  /** what STATUS answers: always yes, or whether the agent is ready. A no makes the whole node NotReady. */
  statusPolicy: 'node-ready' | 'agent-ready';
}
