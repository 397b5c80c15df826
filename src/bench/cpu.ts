/**
 * CPU time of a run. Ours is what cgroup v2 accounts to the cgroups of client, server and tunnel (cpu.stat is in every cgroup, with or
 * without controllers): the kernel's work for a packet is done by whoever sends it, so it is in there. Beside it what the whole machine
 * was busy with: the rest are strangers, and kernel threads.
 */
import { CulvertError } from '../base/errors.ts';

export interface CpuUse {
  /** seconds of CPU of client, server and tunnel together */
  ours: number;
  user: number;
  system: number;
  /** seconds of CPU of the whole machine, interrupts and stolen time included */
  machine: number;
}

/** Jiffies of /proc/stat are hundredths of a second to user space on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/**
 * @param before texts of cpu.stat of each cgroup, the last one of /proc/stat; after: the same, later
 * @throws CulvertError CHECK_FAILED when one of them could not be read: its cgroup is gone
 */
export function cpuUse(before: readonly string[], after: readonly string[]): CpuUse {
  const cgroups = before.slice(0, -1).map((text, i) => ({ before: text, after: after[i] ?? '' }));
  const spent = (field: string): number =>
    cgroups.reduce((sum, text) => sum + statOf(text.after, field) - statOf(text.before, field), 0) / 1e6;
  return {
    ours: spent('usage_usec'),
    user: spent('user_usec'),
    system: spent('system_usec'),
    machine: busySeconds(after.at(-1) ?? '') - busySeconds(before.at(-1) ?? ''),
  };
}

function statOf(text: string, field: string): number {
  const value = new RegExp(`^${field} (\\d+)$`, 'm').exec(text)?.[1];
  if (value === undefined) throw new CulvertError('CHECK_FAILED', `read ${field} of a cgroup: there is none; the cgroup is gone`);
  return Number(value);
}

/** All of the first line but idle and iowait; guest time is in user time already. */
export function busySeconds(procStat: string): number {
  const fields = /^cpu +(.*)$/m.exec(procStat)?.[1]?.split(' ').map(Number) ?? [];
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = fields;
  return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND;
}

/** Share of the machine, 0 to 1, that others than client, server and tunnel had. */
export function strangersShare(cpu: CpuUse, seconds: number, cpus: number): number {
  return Math.min(1, Math.max(0, (cpu.machine - cpu.ours) / (seconds * cpus)));
}
