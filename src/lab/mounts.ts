/** Mounts below a directory: network namespaces and the lab's own bpffs. Found in the kernel's table, not remembered. */
import { readFileSync } from 'node:fs';
import { unescaped } from '../sys/mountinfo.ts';
import { must } from './command.ts';

/** Mount points below `dir`, deepest first. */
export function mountsBelow(dir: string, mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): string[] {
  return mountinfo
    .split('\n')
    .map((line) => unescaped(line.split(' ')[4] ?? ''))
    .filter((path) => path.startsWith(`${dir}/`))
    .sort((a, b) => b.length - a.length);
}

/** Lazily: whoever still has something open there, a shell of somebody looking around, must not keep a lab from going. */
export async function unmountBelow(dir: string): Promise<void> {
  const mounts = mountsBelow(dir);
  if (mounts.length > 0) await must(['umount', '--lazy', ...mounts]);
}
