/** A node that loses power and comes back: nothing runs, what lay in memory is gone, what lay on disk is there. */
import { removeCgroup } from './cgroups.ts';
import type { ClusterNode } from './node.ts';

/** Everything in it but its first process, which buries orphans, and whoever runs this. */
const KILL_ALL = 'for p in $(ls /proc | grep -E "^[0-9]+$"); do [ $p = 1 ] || [ $p = $$ ] || kill -9 $p 2>/dev/null; done; true';

/** Mounts below /run (sandboxes, their namespaces) and those of pods' volumes, the newest first. */
const UNMOUNT = String.raw`
awk '$5 ~ "^/(run|var/lib/kubelet|var/lib/containerd)/" {print $5}' /proc/self/mountinfo | tac | while read -r m; do umount -l "$m" 2>/dev/null; done
find /run -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +
mkdir -p /run/netns
# programs and maps live as long as their pins
rm -rf /sys/fs/bpf/*
ip link delete cni0 2>/dev/null
true`;

/** Returns when containerd answers and kubelet and kube-proxy run again. The kernel stays the machine's. */
export async function reboot(node: ClusterNode): Promise<void> {
  for (const component of ['kubelet', 'kube-proxy', 'containerd'] as const) await node.kill(component);
  await node.run(['sh', '-c', KILL_ALL]);
  await node.run(['sh', '-c', UNMOUNT]);
  await removeCgroup(`${node.cgroup}/kubepods`); // kubelet would look for the containers of each, three seconds long
  for (const component of ['containerd', 'kubelet', 'kube-proxy'] as const) await node.start(component);
}
