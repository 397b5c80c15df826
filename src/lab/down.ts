/** Takes a lab down completely, whatever state it is in: what exists is read from kernel and file system, not remembered. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isSystem } from '../base/errors.ts';
import { cgroup2Mount } from '../sys/cgroup.ts';
import { labCgroup, processesOf, removeCgroup } from './cgroups.ts';
import { daemonRecord } from './daemons.ts';
import { mountsBelow, unmountBelow } from './mounts.ts';
import { defaultHome, type LabHome, type LabPaths } from './paths.ts';
import { isAlive, records, signal } from './processes.ts';

/** Nodes that the lab's directory knows of. */
export function nodesOf(lab: LabPaths): string[] {
  return list(lab.nodesDir).sort();
}

/** Up: at least one of its agents lives. Anything less is a leftover. */
export function isUp(lab: LabPaths): boolean {
  return nodesOf(lab).some((node) => isAlive(daemonRecord(lab, node, 'agent')));
}

/** @returns false when there was nothing of it. Idempotent. */
export async function takeDown(lab: LabPaths): Promise<boolean> {
  const found = leftovers(lab).length > 0;
  for (const node of nodesOf(lab)) for (const { record } of records(lab.node(node).pidDir)) signal(record, 'SIGKILL');
  await removeCgroup(labCgroup(lab));
  removePins(lab);
  await unmountBelow(lab.dir);
  rmSync(lab.dir, { recursive: true, force: true });
  if (list(lab.home.root).length === 0) rmSync(lab.home.root, { recursive: true, force: true });
  return found;
}

/** Everything of a lab that exists, one line each; empty when it is really gone. */
export function leftovers(lab: LabPaths): string[] {
  const cgroup = labCgroup(lab);
  return [
    ...processesOf(cgroup).map((pid) => `process ${pid}`),
    ...(existsSync(cgroup) ? [`cgroup ${cgroup}`] : []),
    ...mountsBelow(lab.dir).map((path) => `mount ${path}`),
    ...(existsSync(lab.dir) ? [`directory ${lab.dir}`] : []),
  ];
}

/** Names of all labs of which anything is left, by directory, cgroup or mount. */
export function findLabs(home: LabHome = defaultHome): string[] {
  const byCgroup = list(cgroup2Mount())
    .filter((name) => name.startsWith(home.cgroupPrefix))
    .map((name) => name.slice(home.cgroupPrefix.length));
  const byMount = mountsBelow(home.root).map((path) => path.slice(home.root.length + 1).split('/')[0] ?? '');
  return [...new Set([...list(home.root), ...byCgroup, ...byMount])].filter((name) => name !== '').sort();
}

/** Unlinked one by one: another mount namespace may hold the same bpffs, and pins there would keep programs attached. */
function removePins(lab: LabPaths): void {
  if (!mountsBelow(lab.dir).includes(lab.bpffs)) return;
  for (const name of list(lab.bpffs)) rmSync(join(lab.bpffs, name), { recursive: true, force: true });
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return [];
    throw error;
  }
}
