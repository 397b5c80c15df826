/** What the lab does to the machine, only root may do. */
import { CulvertError } from '../base/errors.ts';

/** @param what "start lab", for the message @throws CulvertError NOT_ROOT */
export function requireRoot(what: string): void {
  if (process.geteuid?.() !== 0)
    throw new CulvertError('NOT_ROOT', `${what}: it needs root for network namespaces, BPF and cgroups; run it with sudo`);
}
