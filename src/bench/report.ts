/**
 * What `culvert bench` measured, as it stands in report.json. Numbers are in the units that each row names; times of the
 * day are RFC 3339. Fields may be added, never renamed.
 */

/** One identical pod pair each. `direct-2` is the twin of `direct`: what the two differ by is the machine's noise. */
export const scenarios = ['direct', 'direct-2', 'iptables', 'nftables', 'ebpf', 'geneve'] as const;
export type Scenario = (typeof scenarios)[number];

/** `none`: a stand-in that accepts and echoes by itself, so that the redirect alone is left. */
export const tunnelKinds = ['builtin', 'external', 'none'] as const;
export type TunnelKind = (typeof tunnelKinds)[number];

/** One measured value: one metric of one scenario with one tunnel, in one round. */
export interface Sample {
  /** From 1. */
  round: number;
  scenario: string;
  tunnel: TunnelKind;
  metric: string;
  unit: string;
  value: number;
  /** False when the counters say that another path was taken, or when there were too many errors. */
  valid: boolean;
  /** Why it is void. */
  why?: string;
}

/** All valid samples of one metric, scenario and tunnel. */
export interface Cell {
  scenario: string;
  tunnel: TunnelKind;
  metric: string;
  unit: string;
  /** In the order of the rounds. */
  samples: number[];
  median: number;
  /** Bootstrap 95 % interval of the median. */
  low: number;
  high: number;
  valid: boolean;
  /** Why it is void, or that it is not applicable and why. */
  note?: string;
}

/** `a` over `b`, the median of the ratios inside each round. */
export interface Ratio {
  metric: string;
  tunnel: TunnelKind;
  a: string;
  b: string;
  median: number;
  /** Bootstrap 95 % interval. */
  low: number;
  high: number;
  /** How many rounds gave a ratio. */
  rounds: number;
}

/** A cell that this run could not have by design. */
export interface NotApplicable {
  scenario: string;
  tunnel: TunnelKind;
  why: string;
}

/** What one BPF program cost while `kernel.bpf_stats_enabled` was on, in a round of its own. */
export interface ProgramProfile {
  program: string;
  runs: number;
  /** Nanoseconds of one run, in the mean; the kernel's own bookkeeping of about 20 ns is in it. */
  nsPerRun: number;
  runsPerOperation: number;
}

/** Where the time of one scenario goes; taken outside of the measured rounds. */
export interface Profile {
  scenario: string;
  tunnel: TunnelKind;
  metric: string;
  operations: number;
  programs: ProgramProfile[];
  /** Voluntary and involuntary context switches of client, server and tunnel together. */
  contextSwitchesPerOperation?: number;
  /** Microseconds of CPU per operation in user and kernel mode, of client, server and tunnel together. */
  userMicros?: number;
  systemMicros?: number;
}

/** The tunnel that carried the traffic of a section of the report. */
export interface TunnelInfo {
  kind: TunnelKind;
  /** The first line that describes it: our version, or the external binary's answer to `version`. */
  description: string;
  path?: string;
}

export interface Environment {
  kernel: string;
  arch: string;
  cpu: string;
  cpus: number;
  memoryBytes: number;
  culvert: string;
  node: string;
  iptables?: string;
  nft?: string;
  /** 1, 5 and 15 minutes, before the run and after it. */
  loadBefore: [number, number, number];
  loadAfter: [number, number, number];
  /** Share of the machine's CPU time, 0 to 1, that others used while this run measured: median and maximum. */
  strangers: { median: number; max: number };
  /** Sysctls that every pod of the run had alike. */
  sysctls: Record<string, string>;
  nodes: number;
  /** What wraps the packets of scenario geneve: VXLAN where the kernel has no Geneve. Absent when it was not measured. */
  geneveDevice?: 'geneve' | 'vxlan';
  /** Threads of the load generator for new connections, and streams for bulk. */
  threads: number;
  streams: number;
  /** `virtual` names the hypervisor if there is one. */
  virtual?: string;
}

export interface Report {
  valid: boolean;
  invalidReasons: string[];
  /** A first look with few and short rounds: not to be quoted. */
  quick: boolean;
  environment: Environment;
  /** The command line that made it. */
  command: string;
  started: string;
  seconds: number;
  rounds: number;
  cells: Cell[];
  ratios: Ratio[];
  notApplicable: NotApplicable[];
  profiles?: Profile[];
  tunnels: TunnelInfo[];
  /** Everything that was measured, void ones too. */
  samples: Sample[];
}
