/** What a killed run left: its processes went with it; its cgroups and directories did not, its network device not always at once. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hierarchies, removeCgroup } from './cgroups.ts';
import { removeDevice } from './network.ts';

let clusters = 0;

/** Name for a cluster's directory and cgroup that says whose it is: "cvt-k4711-1". */
export function clusterName(): string {
  clusters += 1;
  return `cvt-k${process.pid}-${clusters}`;
}

/** Name for its network device: "cvt4711-1". */
export function deviceName(cluster: string): string {
  return cluster.replace('-k', '');
}

/** Removes cgroups, directories and devices of clusters whose test process is gone. */
export async function sweep(): Promise<void> {
  const cgroups = hierarchies().flatMap((mount) => readdirSync(mount).filter(orphaned));
  for (const cgroup of new Set(cgroups)) await removeCgroup(cgroup);
  for (const device of readdirSync('/sys/class/net').filter(orphaned)) await removeDevice(device);
  for (const name of readdirSync(tmpdir()).filter(orphaned)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
}

function orphaned(name: string): boolean {
  const pid = /^cvt(?:-k)?(\d+)-\d+$/.exec(name)?.[1];
  return pid !== undefined && !existsSync(`/proc/${pid}`);
}
