/** Does a cluster go without a trace? */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { hierarchies } from './cgroups.ts';
import type { Cluster } from './cluster.ts';

/** Ends the cluster. @throws naming what is left of it on this machine: directories, cgroups, processes, devices */
export async function closeWithoutTrace(cluster: Cluster): Promise<void> {
  const { name, dir, device, nodes } = cluster;
  const pids = [...Object.values(cluster.pids()), ...nodes.map(({ pid }) => pid)];
  await cluster.close();
  const left = [
    ...[dir, ...hierarchies().map((mount) => join(mount, name))].filter((path) => existsSync(path)),
    ...pids.filter((pid) => pid !== 0 && existsSync(`/proc/${pid}`)).map((pid) => `process ${pid}`),
    ...readdirSync('/sys/class/net').filter((found) => found === device),
  ];
  if (left.length > 0) throw new Error(`left of ${name}: ${left.join(', ')}`);
}
