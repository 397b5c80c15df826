/** What the agent may ask of the kernel; docs/privileges.md says of each what for. */
import { missingCapabilities, type Capability } from '../../sys/kernel.ts';
import { Fault } from './check.ts';

export const NEEDED_CAPABILITIES: Capability[] = ['NET_ADMIN', 'SYS_ADMIN', 'SYS_PTRACE'];

/** @param status text of /proc/PID/status; default: our own */
export function lookAtCapabilities(status?: string): string {
  const missing = missingCapabilities(NEEDED_CAPABILITIES, status);
  if (missing.length === 0) return NEEDED_CAPABILITIES.join(', ');
  throw new Fault(`missing: ${missing.join(', ')}`, `run as root with capabilities ${NEEDED_CAPABILITIES.join(', ')}`);
}
