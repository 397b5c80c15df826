/**
 * Sysctls that were set before us are left set when the pod leaves. They are remembered as markers on bpffs, made before the first
 * change: after a crash the markers, not the present values, say what to leave.
 */
import { mkdirSync } from 'node:fs';
import { isSystem } from '../../base/errors.ts';
import { SYSCTLS, type NetnsView } from './netns-settings.ts';
import { list, type Pins } from './pins.ts';

const marker = (path: string): string => `keep_${path.replaceAll('/', '_')}`;

/** Makes the pod's directory, and in it a marker for each sysctl that is set already. */
export function rememberSysctls(pins: Pins, cookie: bigint, view: NetnsView): void {
  const dir = pins.pod(cookie);
  try {
    mkdirSync(dir, { mode: 0o700 });
  } catch (error) {
    // an earlier joining did not finish: the present values may be ours
    if (isSystem(error, 'EEXIST')) return;
    throw error;
  }
  for (const path of SYSCTLS) {
    if (view.sysctls.has(path) && view.sysctls.get(path) !== '0') mkdirSync(`${dir}/${marker(path)}`, { mode: 0o700 });
  }
}

export function keptSysctls(pins: Pins, cookie: bigint): Set<string> {
  const names = new Set(list(pins.pod(cookie)));
  return new Set(SYSCTLS.filter((path) => names.has(marker(path))));
}
