/**
 * Which pod a process belongs to, by the paths in its /proc/PID/cgroup. Pure. Kubelet and runtimes spell them in many ways: cgroup v1,
 * v2 and both; cgroupfs and systemd drivers; containerd, CRI-O, docker; absolute, and relative to the cgroup namespace of the reader.
 */

export interface CgroupOwner {
  /** lower case, 8-4-4-4-12 */
  podUid: string | undefined;
  containerId: string | undefined;
}

/** 8-4-4-4-12 hex digits; the systemd driver writes "_" for "-", and static pods have no separators at all. */
const UUID = /([0-9a-f]{8})[-_]?([0-9a-f]{4})[-_]?([0-9a-f]{4})[-_]?([0-9a-f]{4})[-_]?([0-9a-f]{12})/;
const POD = new RegExp(`[^0-9a-z]pod${UUID.source}(?![0-9a-z])`, 'gi');
const WHOLE = new RegExp(`^${UUID.source}$`, 'i');
/** CRI-O may leave the pod out; other runtimes' ids without a pod are not Kubernetes'. What follows was made by that container. */
const CRIO = /\/crio-(?:conmon-)?([0-9a-f]{64})(?![0-9a-z])/;

/**
 * @param text of /proc/PID/cgroup
 * @returns undefined for a process of no pod, and for one whose lines contradict each other: two pods, or two containers
 */
export function ownerOf(text: string): CgroupOwner | undefined {
  const pods = new Set<string>();
  const containers = new Set<string>();
  for (const line of text.split('\n')) {
    const path = pathOf(line);
    if (path === undefined) continue;
    const matches = [...path.matchAll(POD)];
    const crio = CRIO.exec(path);
    if (crio !== null && crio.index < (matches[0]?.index ?? -1)) return undefined; // a pod's name that a container wrote
    for (const match of matches) pods.add(match.slice(1).join('-').toLowerCase());
    const last = matches.at(-1);
    const container = last === undefined ? whole(path, crio) : containerIn(path.slice(last.index + last[0].length));
    if (container !== undefined) containers.add(container);
  }
  if (pods.size > 1 || containers.size > 1 || pods.size + containers.size === 0) return undefined;
  return { podUid: [...pods][0], containerId: [...containers][0] };
}

/** Its id, when nothing follows. */
function whole(path: string, match: RegExpExecArray | null): string | undefined {
  return match !== null && match.index + match[0].length === path.length ? match[1] : undefined;
}

/** The spelling that `ownerOf` gives. Undefined for what is no UUID: some sources' uids are none. */
export function canonicalUid(uid: string): string | undefined {
  return WHOLE.exec(uid)?.slice(1).join('-').toLowerCase();
}

/** "4:memory:/kubepods/…", "0::/…". A cgroup that was removed under its last process says so at the end; a scope is a unit of systemd. */
function pathOf(line: string): string | undefined {
  const controllers = line.indexOf(':');
  const path = line.indexOf(':', controllers + 1);
  if (controllers < 0 || path < 0) return undefined;
  return line
    .slice(path + 1)
    .replace(/ \(deleted\)$/, '')
    .replace(/\.scope$/, '');
}

/** @param rest of a path after the pod's uid: "/<id>", ".slice/cri-containerd-<id>", ".slice:cri-containerd:<id>"; or nothing of a container */
function containerIn(rest: string): string | undefined {
  const below = rest.replace(/^\.slice/, '');
  return /[^0-9a-z]([0-9a-z]+)$/i.exec(below)?.[1];
}
