/**
 * The one table of error codes. Codes are append-only and what callers branch on; messages read "verb noun: cause".
 * `retryable` says whether doing the same again later may help.
 */
const TABLE = {
  CONFIG_INVALID: { retryable: false, exit: 2 },
  USAGE: { retryable: false, exit: 2 },
  NOT_ROOT: { retryable: false, exit: 2 },
  KERNEL_UNSUPPORTED: { retryable: false, exit: 1 },
  NATIVE_LOAD: { retryable: false, exit: 1 },
  SYSTEM: { retryable: true, exit: 1 },
  VERIFIER: { retryable: false, exit: 1 },
  MAP_LAYOUT: { retryable: false, exit: 1 },
  MAP_FULL: { retryable: true, exit: 1 },
  PIN_FOREIGN: { retryable: false, exit: 1 },
  PIN_BUSY: { retryable: true, exit: 1 },
  CGROUP_ROOT: { retryable: false, exit: 1 },
  NETNS_GONE: { retryable: false, exit: 1 },
  NETNS_UNKNOWN: { retryable: true, exit: 1 },
  NETNS_TAKEN: { retryable: false, exit: 1 },
  ENROL_FAILED: { retryable: true, exit: 1 },
  ZDS_PROTOCOL: { retryable: true, exit: 1 },
  ZDS_NACK: { retryable: true, exit: 1 },
  ZDS_TIMEOUT: { retryable: true, exit: 1 },
  ZDS_NO_TUNNEL: { retryable: true, exit: 1 },
  SOURCE_INVALID: { retryable: false, exit: 1 },
  POD_UNKNOWN: { retryable: true, exit: 1 },
  AGENT_UNREACHABLE: { retryable: true, exit: 3 },
  AGENT_REFUSED: { retryable: false, exit: 1 },
  CNI_INPUT: { retryable: false, exit: 1 },
  CNI_VERSION: { retryable: false, exit: 1 },
  CERTIFICATE: { retryable: true, exit: 1 },
  PEER_IDENTITY: { retryable: false, exit: 1 },
  HBONE_REFUSED: { retryable: false, exit: 1 },
  NO_ENDPOINT: { retryable: true, exit: 1 },
  SELF_CALL: { retryable: false, exit: 1 },
  LAB: { retryable: false, exit: 1 },
  CHECK_FAILED: { retryable: false, exit: 1 },
  /** xDS: the control plane is away, refused us, or sent what cannot be read */
  XDS: { retryable: true, exit: 1 },
  /** the Kubernetes API refused or failed; `KubernetesError` carries the HTTP status */
  KUBERNETES: { retryable: true, exit: 1 },
  /** a caller of control is not who it must be, or may not have what it asks for */
  UNAUTHENTICATED: { retryable: false, exit: 1 },
  PERMISSION_DENIED: { retryable: false, exit: 1 },
  /** a policy that cannot be expressed at L4, or cannot be read */
  POLICY_INVALID: { retryable: false, exit: 1 },
  /** a network configuration of the host that cannot be read, or must not be edited */
  CONFLIST_INVALID: { retryable: false, exit: 1 },
  /** somebody else wrote it while we did */
  CONFLIST_CHANGED: { retryable: true, exit: 1 },
  /** what the agent needs of its host, or of the pod it runs in, is not there */
  HOST_UNSUITABLE: { retryable: false, exit: 1 },
} as const satisfies Record<string, { retryable: boolean; exit: 1 | 2 | 3 }>;

export type ErrorCode = keyof typeof TABLE;

/** What the kernel or libuv said, kept on our errors. */
export interface SystemCause {
  errno?: number;
  syscall?: string;
  /** the kernel's name, "ENOENT" */
  systemCode?: string;
}

export class CulvertError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly exit: 1 | 2 | 3;
  readonly errno?: number;
  readonly syscall?: string;
  readonly systemCode?: string;

  /** @param cause a system error's errno and syscall are copied onto this one */
  constructor(code: ErrorCode, message: string, cause?: unknown, options: { retryable?: boolean } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'CulvertError';
    this.code = code;
    this.retryable = options.retryable ?? TABLE[code].retryable;
    this.exit = TABLE[code].exit;
    const system = systemCause(cause);
    if (system.errno !== undefined) this.errno = system.errno;
    if (system.syscall !== undefined) this.syscall = system.syscall;
    if (system.systemCode !== undefined) this.systemCode = system.systemCode;
  }
}

/** errno, syscall and code name of a Node or addon error; empty for anything else. */
export function systemCause(error: unknown): SystemCause {
  if (!(error instanceof Error)) return {};
  if (error instanceof CulvertError) {
    return {
      ...(error.errno === undefined ? {} : { errno: error.errno }),
      ...(error.syscall === undefined ? {} : { syscall: error.syscall }),
      ...(error.systemCode === undefined ? {} : { systemCode: error.systemCode }),
    };
  }
  const e = error as NodeJS.ErrnoException;
  return {
    ...(typeof e.errno === 'number' ? { errno: Math.abs(e.errno) } : {}),
    ...(typeof e.syscall === 'string' ? { syscall: e.syscall } : {}),
    ...(typeof e.code === 'string' ? { systemCode: e.code } : {}),
  };
}

/** True when the error, ours or the system's, carries this system code ("ENOENT"). */
export function isSystem(error: unknown, code: string): boolean {
  return systemCause(error).systemCode === code;
}

export function isCulvert(error: unknown, code?: ErrorCode): error is CulvertError {
  return error instanceof CulvertError && (code === undefined || error.code === code);
}

/** One line for people: the message, and the causes' messages that it does not already contain. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : describe(error.cause);
  return cause === '' || error.message.includes(cause) ? error.message : `${error.message}: ${cause}`;
}
