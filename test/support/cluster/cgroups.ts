/** cgroups of a cluster: in every hierarchy of this machine, v2 beside v1 or alone, since kubelet and runc want theirs in each. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cgroup2Mount } from '../../../src/sys/cgroup.ts';
import { unescaped } from '../../../src/sys/mountinfo.ts';
import { until } from '../kubernetes/until.ts';

/** Mount points of all hierarchies, of v1 and v2. */
export function hierarchies(): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.flatMap((line) => {
    const [left, right] = line.split(' - ');
    const [, , , root, point] = (left ?? '').split(' ');
    return root === '/' && point !== undefined && /^cgroup2? /.test(right ?? '') ? [unescaped(point)] : [];
  });
}

/** @param path "cvt-k1/node1", each part of it is made where it is missing */
export function makeCgroup(path: string): void {
  for (const mount of hierarchies()) {
    let here = mount;
    for (const part of path.split('/')) {
      passControllersOn(here);
      here = join(here, part);
      mkdirSync(here, { recursive: true });
      inheritCpus(here);
    }
  }
}

/** Path of the cgroup in v2. */
export function cgroup2Path(path: string): string {
  return join(cgroup2Mount(), path);
}

/** v2: what children may use is said by their parent. */
function passControllersOn(parent: string): void {
  const list = join(parent, 'cgroup.controllers');
  if (!existsSync(list)) return;
  for (const controller of readFileSync(list, 'utf8').trim().split(' ')) {
    try {
      if (controller !== '') writeFileSync(join(parent, 'cgroup.subtree_control'), `+${controller}`);
    } catch {
      // refused for this one (real-time processes and cpu, say): kubelet says so if it needs it
    }
  }
}

/** v1: a cpuset has no processors until it is given some, and no process may enter it. */
function inheritCpus(cgroup: string): void {
  for (const name of ['cpuset.cpus', 'cpuset.mems']) {
    const file = join(cgroup, name);
    if (!existsSync(file) || existsSync(join(cgroup, 'cgroup.controllers')) || readFileSync(file, 'utf8').trim() !== '') continue;
    writeFileSync(file, readFileSync(join(dirname(cgroup), name), 'utf8'));
  }
}

/** Removes it and all below, in every hierarchy, when the last process in it has ended. */
export async function removeCgroup(path: string): Promise<void> {
  await until(`cgroup ${path} to be empty`, () => hierarchies().every((mount) => removed(join(mount, path))));
}

function removed(directory: string): boolean {
  try {
    const children = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    const below = children.map(({ name }) => removed(join(directory, name)));
    if (below.includes(false)) return false;
    rmdirSync(directory);
    return true;
  } catch {
    return !existsSync(directory); // busy: a process is still ending; or somebody else removed it meanwhile
  }
}
