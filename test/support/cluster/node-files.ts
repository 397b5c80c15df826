/**
 * A node's file system: the machine's, read-only, with what a node writes kept apart from it. Directories of the machine that get
 * something new are overlaid; the machine's kernel settings other than those of the network are out of reach.
 */
import { mkdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';

const OVERLAY_MAGIC = 0x794c7630;
const OVERLAID = ['/etc', '/opt', '/var/lib', '/var/log', '/var/cache'];
/** What a machine that is itself a node has there is not ours. */
const EMPTY = ['/etc/cni', '/etc/kubernetes', '/opt/cni', '/var/lib/cni', '/var/lib/culvert', '/var/lib/containerd', '/var/lib/kubelet'];
/** Not overlaid once more: an overlay's upper directory may not lie on an overlay, and kubelet asks for the disk's size. */
const ON_DISK = ['/var/lib/containerd', '/var/lib/kubelet'];

/** Kernel settings of the whole machine that kubelet insists on: it may write these files instead. */
const SETTINGS = [
  'kernel/panic',
  'kernel/panic_on_oops',
  'vm/overcommit_memory',
  'vm/panic_on_oom',
  'kernel/keys/root_maxkeys',
  'kernel/keys/root_maxbytes',
];

/** @param dir directory of the node @returns lines of bash for the first process in its mount namespace */
export function nodeFiles(dir: string): string[] {
  const upper = join(dir, 'files');
  mkdirSync(upper, { recursive: true });
  return [
    ...(statfsSync(upper).type === OVERLAY_MAGIC ? [`mount -t tmpfs tmpfs ${upper}`] : []),
    ...OVERLAID.flatMap((path) => [
      `mkdir -p ${upper}${path}/new ${upper}${path}/work`,
      `mount -t overlay overlay -o lowerdir=${path},upperdir=${upper}${path}/new,workdir=${upper}${path}/work ${path}`,
    ]),
    `rm -rf ${EMPTY.join(' ')}`,
    `mkdir -p ${EMPTY.join(' ')} /etc/cni/net.d /opt/cni/bin`,
    ...ON_DISK.flatMap((path) => [`mkdir -p ${upper}/disk${path}`, `mount --bind ${upper}/disk${path} ${path}`]),
    // This machine's whole cgroup hierarchies, under a sysfs that shows the node's network devices; and a bpffs of its own.
    'mount -t tmpfs tmpfs /run',
    'mkdir -p /run/netns /run/lock /run/cgroups',
    'mount --rbind /sys/fs/cgroup /run/cgroups',
    'mount -t sysfs sysfs /sys',
    'mount --move /run/cgroups /sys/fs/cgroup',
    'rmdir /run/cgroups',
    'mount -t bpf bpf /sys/fs/bpf',
    'mount --bind /proc/sys /proc/sys',
    'mount -o remount,bind,ro /proc/sys',
    'mount --bind /proc/sys/net /proc/sys/net',
    'mount -o remount,bind,rw /proc/sys/net',
    ...[...SETTINGS.entries()].flatMap(([index, setting]) => [
      `mkdir -p ${upper}/settings && cat /proc/sys/${setting} >${upper}/settings/${index}`,
      `mount --bind ${upper}/settings/${index} /proc/sys/${setting}`,
    ]),
    'mount --bind /tmp /tmp',
    `mount --bind ${dir} ${dir}`,
    'mount -o remount,bind,ro /',
    // Pods that mount a path of the node see what is mounted below it later (HostToContainer).
    'mount --make-rshared /',
  ];
}
