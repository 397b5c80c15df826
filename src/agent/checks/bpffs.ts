/** Pins must outlive the agent and be seen by the next one: on a bpffs of the host, mounted once. */
import { readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { isBpffs } from '../../sys/bpffs.ts';
import { mountsOf, type Mount } from '../../sys/mountinfo.ts';
import { Fault } from './check.ts';

export interface BpffsView {
  pinDir: string;
  isBpffs: (path: string) => boolean;
  /** "major:minor" of the file system at a path; undefined when nothing is there */
  deviceOf: (path: string) => string | undefined;
  own: Mount[];
  /** of the node's first process; undefined: the pins need not be the host's (a lab) */
  host: Mount[] | undefined;
}

/** @param procRoot procfs of the node; undefined: see `host` */
export function bpffsView(pinDir: string, procRoot: string | undefined): BpffsView {
  const read = (path: string): Mount[] => mountsOf(readFileSync(path, 'utf8'));
  return {
    pinDir,
    isBpffs,
    deviceOf,
    own: read('/proc/self/mountinfo'),
    host: procRoot === undefined ? undefined : read(`${procRoot}/1/mountinfo`),
  };
}

const MOUNT = 'mount the host\'s: in the pod hostPath /sys/fs/bpf, on the host "mount -t bpf bpffs /sys/fs/bpf"';

export function lookAtBpffs({ pinDir, isBpffs, deviceOf, own, host }: BpffsView): string {
  const at = existing(pinDir, deviceOf);
  if (!isBpffs(at)) throw new Fault(`${pinDir} is not on a bpffs`, MOUNT);
  const device = deviceOf(at);
  refuseStacked(own, device, 'here');
  if (host === undefined) return `${pinDir} is on a bpffs`;
  if (!host.some((mount) => mount.type === 'bpf' && mount.device === device))
    throw new Fault(
      `${pinDir} is on a bpffs of this container: what is pinned there ends with it, and with it the redirect of every pod`,
      MOUNT,
    );
  refuseStacked(host, device, 'on the host');
  return `${pinDir} is on the host's bpffs`;
}

/** One over another hides the pins of the first, while the programs that they keep go on. */
function refuseStacked(mounts: Mount[], device: string | undefined, where: string): void {
  for (const { point } of mounts.filter((mount) => mount.type === 'bpf' && mount.device === device)) {
    const stack = mounts.filter((mount) => mount.type === 'bpf' && mount.point === point);
    if (stack.length > 1)
      throw new Fault(
        `${stack.length} bpffs are mounted over each other on ${point} ${where}: pins of the lower ones are hidden, and their programs run unseen`,
        `unmount ${point} until one is left, then start the agent again`,
      );
  }
}

/** The pin directory itself is made later. */
function existing(path: string, deviceOf: BpffsView['deviceOf']): string {
  let at = path;
  while (deviceOf(at) === undefined && at !== dirname(at)) at = dirname(at);
  return at;
}

function deviceOf(path: string): string | undefined {
  const dev = statSync(path, { throwIfNoEntry: false })?.dev;
  if (dev === undefined) return undefined;
  // as <sys/sysmacros.h> takes them apart; what exceeds 32 bits is no device of today's kernels
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  return `${major}:${minor}`;
}
