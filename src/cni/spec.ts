/**
 * The parts of the CNI specification (0.3.0 to 1.1.0) that a chained plugin meets. Written by hand and without a schema library:
 * the plugin is a process per pod, and its start-up time is paid by every pod start of the node.
 */

/** Oldest first; the newest is what VERSION answers when the caller names none. 0.3.0, which Weave and AKS use, has 0.3.1's results. */
export const supportedVersions = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export const currentVersion = '1.1.0';

/** Codes 1–99 are the specification's, 100 and up are ours and append-only (102 was "enrol failed", which is 11 now). */
export const cniCode = {
  incompatibleVersion: 1,
  /** the configuration asks for something that this plugin does not do; the message holds key and value */
  unsupportedField: 2,
  /** the container is not there: the runtime need not clean up */
  unknownContainer: 3,
  invalidEnvironment: 4,
  ioFailure: 5,
  decodeFailure: 6,
  invalidConfig: 7,
  /** a passing condition: no tunnel yet, a source slower than the runtime; the runtime tries again */
  tryAgainLater: 11,
  /** STATUS: no ADD would succeed now */
  notAvailable: 50,
  /** the agent does not answer and the pod must not start unprotected */
  agentAway: 100,
  /** the agent answered no, and doing the same again will not help */
  agentRefused: 101,
  /** CHECK: the pod's datapath is not as it should be */
  checkFailed: 103,
  /** a fault of the plugin itself */
  internal: 199,
} as const;

/** Printed as the specification's error object. */
export class CniError extends Error {
  readonly code: number;
  /** what to do about it; the runtime shows it behind the message */
  readonly details: string;

  constructor(code: number, message: string, details = '') {
    super(message);
    this.name = 'CniError';
    this.code = code;
    this.details = details;
  }
}

/** The result of the plugins before us. Only the addresses are ours to read; the rest passes through as it came. */
export interface PrevResult {
  cniVersion?: string;
  ips?: { address: string }[];
}

/** One interface of one container, as GC names those that are still in use. */
export interface ValidAttachment {
  containerId: string;
  ifname: string;
}

/** `CNI_ARGS` pairs of a Kubernetes runtime; undefined when the sandbox is not a Kubernetes pod. */
export interface PodArgs {
  namespace: string;
  name: string;
  uid: string;
}

export interface CniEnvironment {
  containerId: string;
  /** path of the pod's network namespace; empty on a repeated DEL */
  netns: string;
  ifname: string;
  pod: PodArgs | undefined;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
