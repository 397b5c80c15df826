/**
 * The driver contract: how a netns' traffic gets into the tunnel that listens in it. Drivers (ebpf, iptables, nftables)
 * are chosen by a probe, never by `if` in the callers. Every verb is idempotent: doing it twice is doing it once.
 */

export const DRIVER_NAMES = ['ebpf', 'iptables', 'nftables'] as const;
export type DriverName = (typeof DRIVER_NAMES)[number];

export type DatapathState = 'none' | 'prepared' | 'active' | 'draining';

export interface PodFlags {
  dns: boolean;
  /** no inbound capture except 15008 */
  ingressMode: boolean;
  /** mark 0x539 alone proves the tunnel (debugging, `culvert redirect on`) */
  markOnly: boolean;
}

export interface PodTarget {
  uid: string;
  namespace: string;
  name: string;
  /** open fd of the netns, owned by the caller, valid during the call only */
  netnsFd: number;
  /** its SO_NETNS_COOKIE, asked when it was opened */
  netnsCookie: bigint;
  /** path of the netns if known, else "" */
  netnsPath: string;
  flags: PodFlags;
  /** the pod's own choice, by annotation; undefined: the node's driver */
  driver?: DriverName;
  /** names of interfaces behind which virtual machines or nested containers live: what comes in there is outbound traffic */
  virtualInterfaces?: readonly string[];
}

/** A netns that the datapath serves now, read from the kernel (pins and maps), not from memory. */
export interface EnrolledNetns {
  cookie: bigint;
  uid: string;
  namespace: string;
  name: string;
  netnsPath: string;
  state: DatapathState;
  flags: PodFlags;
  /** which driver serves it, where there are several; undefined: the one that says so */
  driver?: DriverName;
  /** somebody else's redirect is there, too (istio-cni's rules), and captures until ours is active */
  foreign?: boolean;
}

/** Counts per pod, keyed by reason text ("own", "no-tunnel"); see bpf/abi/reasons.h. */
export interface PodCounters {
  outboundRedirected: number;
  inboundRedirected: number;
  outboundPassed: Record<string, number>;
  inboundPassed: Record<string, number>;
  dropped: Record<string, number>;
}

/** How often a reason was met in a netns. Notices ("app-mark") have neither direction nor verdict: "other". */
export interface Tally {
  cookie: bigint;
  direction: 'outbound' | 'inbound' | 'other';
  verdict: 'redirected' | 'passed' | 'dropped' | 'other';
  /** "own", "no-tunnel" */
  reason: string;
  count: number;
}

export interface Occupancy {
  map: string;
  entries: number;
  maxEntries: number;
}

export interface DatapathEvent {
  /** RFC 3339 */
  time: string;
  cookie: bigint;
  direction: 'outbound' | 'inbound' | 'other';
  verdict: 'redirected' | 'passed' | 'dropped' | 'other';
  /** text of the reason: "tunnel", "accepted", "own" … */
  reason: string;
  /** "10.0.0.1:80", "[fd00::1]:80"; undefined where the hook does not know it */
  src?: string;
  dst: string;
}

export interface RedirectDriver {
  readonly name: DriverName;
  /** the operator chose it; undefined: it does not know of others */
  readonly forced?: boolean;
  /** Of several drivers the one that serves this netns; undefined: none. */
  servedBy?(cookie: bigint): DriverName | undefined;
  /** Of several drivers: this netns' pod asked for another than it has, which can run by now; to reconcile it moves it there. */
  overdue?(cookie: bigint): boolean;
  /** what this kernel or node takes away from it now, one sentence each; empty when all of it works */
  readonly reasons: string[];
  /** Probe exemption, own addresses, rules, routes, sysctls, sk_lookup link, state prepared. Undone when it fails. */
  prepare(pod: PodTarget): Promise<EnrolledNetns>;
  /** The commit: one map write, or one transaction per table. Who must know that it is done awaits it. */
  activate(cookie: bigint): void | Promise<void>;
  /** New connections direct at once; captured ones and 15008 go on. */
  drain(cookie: bigint): void | Promise<void>;
  /**
   * Takes the datapath off: link detached, sysctls, route, rule; rules and prohibit stay until no socket with mark 0x111 is
   * left (leftovers destroyed after `deadlineMs`). The netns may be gone: then only what the kernel kept of it is removed.
   * @param netnsFd undefined when the netns is gone
   * @param successor another redirect with the same marks serves the netns already: rule and route of mark 0x111 stay, for it and for
   *   the connections that are open, which nobody waits for and nobody ends unless they need more of us than that
   */
  remove(cookie: bigint, netnsFd: number | undefined, deadlineMs: number, successor?: boolean): Promise<void>;
  /** Everything of our own instance that the kernel holds now. */
  snapshot(): EnrolledNetns[];
  /** Re-checks one netns after a restart: links, rules, routes, sysctls, addresses; repairs what is missing, touches nothing live. */
  reconcile(pod: PodTarget): Promise<EnrolledNetns>;
  /**
   * Reads, changes nothing: what of this netns' datapath is not as it should be while its pod is enrolled (state, link, maps,
   * rules, routes, sysctls, listeners), one sentence each. Empty: all is well.
   * @param addresses that the netns must have, as the plugin was told
   */
  faults(pod: PodTarget, addresses: readonly string[]): string[];
  /**
   * What of this pod the datapath cannot serve, or serves by a way round, one sentence each with its remedy; empty: all is well. Read
   * anew at each call, in the netns. Such a pod is enrolled all the same, and marked: `culvert pods` shows the sentences with it,
   * `doctor` counts them as a failed check.
   */
  warnings(cookie: bigint, netnsFd: number): string[];
  /** Says that the warnings of this netns are others now, also soon after `prepare`: who tells people (log, Event on the pod) reads them again. */
  onWarnings(listener: (cookie: bigint) => void): { close(): void };
  /** What another redirect left on the node itself and cannot be taken off, one sentence each with its remedy; undefined: it does not look. */
  leftovers?(): string[];
  /** Brings up to date what depends on the node: kubelet's cgroups, Istio's host rule. For every tick of the agent. Never throws. */
  refreshNode(): void;
  /** Tries again how the node's connections arrive in each pod, for a slow tick (a minute): rules may come later than pods. Never throws. */
  recheckPods(): Promise<void>;
  /** Takes living tunnel listeners of this netns, found in process `pid`, into `listeners` (pidfd_getfd). @returns how many */
  adoptListeners(cookie: bigint, pid: number): number;
  /** Number of new 15008 connections handed over so far: the drain's grace waits for it to stand still. */
  hboneAccepted(cookie: bigint): number | Promise<number>;
  /** Open connections of this netns that take the tunnel, both ends' sockets counted: a pod that leaves waits for them to end. */
  captured(netnsFd: number): number;
  listeners(cookie: bigint): { port: number; alive: boolean }[];
  counters(cookie: bigint): PodCounters;
  /** Of every netns, by cookie, where `counters` of each would take long: the process goes on meanwhile. undefined: it does not. */
  countersOfAll?(): Promise<ReadonlyMap<bigint, PodCounters>>;
  /** Of one netns. */
  tallies(cookie: bigint): Tally[];
  /** For metrics, each map read once: what was counted, and how full the maps are whose being full refuses something. */
  readAll(): { tallies: Tally[]; maps: Occupancy[] };
  /** The tunnel's proof of identity: its cgroup v2 id, written before the first ZDS add, kept while it drains. */
  trustTunnel(cgroupId: bigint): void;
  distrustTunnel(cgroupId: bigint): void;
  /** as the kernel holds them, those of earlier runs of the agent included */
  trustedTunnels(): bigint[];
  /** Live events. While at least one listener is there, redirected and passed connections are reported too. */
  onEvent(listener: (event: DatapathEvent) => void): { close(): void };
  eventsLost(): number;
  /** Stops watches and closes fds; everything pinned goes on working. */
  close(): void;
}
