/** Our programs on the hooks of the cgroup root, and who else is there: another program may decide before or after ours. */
import { closeSync, openSync } from 'node:fs';
import { CGROUP_PROGRAMS, cgroupPrograms } from '../../redirect/ebpf/index.ts';
import { native, type Native } from '../../sys/native.ts';
import { isSystem } from '../../base/errors.ts';
import { Fault } from './check.ts';

/** @param pinDir of the agent whose programs are meant */
export function lookAtHooks(
  cgroupRoot: string,
  pinDir: string,
  kernel: Pick<Native, 'bpfCgroupQuery' | 'bpfGet' | 'bpfInfo' | 'closeFd'> = native,
): string {
  const cgroup = openSync(cgroupRoot, 'r');
  try {
    const missing: string[] = [];
    const others: string[] = [];
    for (const name of cgroupPrograms) {
      const attached = kernel.bpfCgroupQuery(cgroup, CGROUP_PROGRAMS[name]);
      const ours = programOf(`${pinDir}/links/${name}`, kernel);
      if (ours === undefined || !attached.includes(ours)) missing.push(name);
      const strangers = attached.filter((id) => id !== ours);
      if (strangers.length > 0) others.push(`${name}: ${strangers.join(', ')}`);
    }
    if (missing.length > 0)
      throw new Fault(
        `not attached to ${cgroupRoot}: ${missing.join(', ')}`,
        'start the agent again; it attaches what is missing. If they go again, another program removes them',
      );
    return others.length === 0 ? 'ours alone' : `ours, and beside them programs (ids for "bpftool prog show id") ${others.join('; ')}`;
  } finally {
    closeSync(cgroup);
  }
}

function programOf(path: string, kernel: Pick<Native, 'bpfGet' | 'bpfInfo' | 'closeFd'>): number | undefined {
  let link: number;
  try {
    link = kernel.bpfGet(path);
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return undefined;
    throw error;
  }
  try {
    return kernel.bpfInfo(link).progId;
  } finally {
    kernel.closeFd(link);
  }
}
