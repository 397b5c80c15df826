/** What this process may ask of the kernel. What the kernel *can* is probed where it is needed, never concluded from its version. */
import { readFileSync } from 'node:fs';

/** Numbers of <linux/capability.h>. */
const CAPABILITIES = { NET_ADMIN: 12, NET_RAW: 13, SYS_PTRACE: 19, SYS_ADMIN: 21, SYS_RESOURCE: 24, PERFMON: 38, BPF: 39 } as const;

export type Capability = keyof typeof CAPABILITIES;

/** Those of the wanted capabilities that this process lacks. SYS_ADMIN contains BPF and PERFMON. */
export function missingCapabilities(wanted: Capability[], status = readFileSync('/proc/self/status', 'utf8')): Capability[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const has = (capability: Capability): boolean => ((effective >> BigInt(CAPABILITIES[capability])) & 1n) === 1n;
  return wanted.filter((each) => !has(each) && !((each === 'BPF' || each === 'PERFMON') && has('SYS_ADMIN')));
}
