/** Where scripts/tools.sh leaves what a cluster is made of. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const BUILT = new URL('../../../build/test/', import.meta.url).pathname;

/** @param name below build/test: "containerd", "cni/bridge", "helm" @throws when it was not made */
export function tool(name: string): string {
  const path = join(BUILT, name);
  if (!existsSync(path)) throw new Error(`no ${path}: scripts/tools.sh makes it (about ten minutes for all, the first time)`);
  return path;
}

/** Directory of containerd, its shim and ctr. "2": ours; "1.6": the distribution's. @throws when the distribution has another one */
export function containerdDirectory(version: '2' | '1.6'): string {
  if (version === '2') return tool('containerd');
  const directory = tool('debian-containerd');
  const found = debianContainerdVersion();
  if (!found.startsWith(`${version}.`)) throw new Error(`containerd ${version} was asked for, and the distribution has ${found}`);
  return directory;
}

/** "1.6.20~ds1" */
export function debianContainerdVersion(): string {
  const text = execFileSync(join(tool('debian-containerd'), 'containerd'), ['--version'], { encoding: 'utf8' });
  return text.trim().split(' ')[2] ?? '';
}
