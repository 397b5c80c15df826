/**
 * Kubelet's cgroups, for nodes on which only kubelet's connections are exempt as probes. Told by path, or found by the process's name.
 * Level-triggered: `refresh` brings the map to what is there now, since a service that starts again has the same path and another id.
 */
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { CulvertError, isSystem } from '../../base/errors.ts';
import { wire, type Maps } from '../../maps/index.ts';
import { cgroupId, cgroupOf, openCgroups, type CgroupTree } from '../../sys/cgroup.ts';
import { namespaceId, processes, startTime } from '../../sys/procfs.ts';

export interface KubeletOptions {
  /** cgroup v2 directories below `cgroupRoot`, "/system.slice/kubelet.service"; empty: find the process */
  paths: readonly string[];
  cgroupRoot: string;
  /** a procfs of the pid namespace in which kubelet runs */
  procRoot: string;
  /** path of the node's netns: kubelet runs in it */
  nodeNetns: string;
}

/** What kubelet's process is called: by itself, and inside MicroK8s, k3s, k0s, RKE2. As /proc/PID/comm has it. */
const NAMES = new Set(['kubelet', 'kubelite', 'k3s', 'k3s-server', 'k3s-agent', 'k0s', 'rke2']);
const REMEDY = 'name its cgroup by kubelet-cgroup, or exempt every process of the node with probe-exemption node';

interface Found {
  pid: number;
  started: bigint | undefined;
  directory: string;
}

export class KubeletCgroups {
  readonly #o: KubeletOptions;
  /** processes found by name; looked for again when one is gone */
  #found: Found[] = [];

  constructor(options: KubeletOptions) {
    this.#o = options;
  }

  /**
   * @returns whether anything changed
   * @throws CulvertError CGROUP_ROOT when kubelet can't be told; the map stays as it is
   */
  refresh({ kubelets }: Pick<Maps, 'kubelets'>): boolean {
    const wanted = new Set(this.ids());
    const stale = kubelets.keys().filter((id) => !wanted.has(id));
    for (const id of stale) kubelets.delete(id);
    const added = [...wanted].filter((id) => !kubelets.has(id));
    for (const id of added) kubelets.set(id, process.hrtime.bigint());
    return stale.length + added.length > 0;
  }

  /** At least one. @throws CulvertError CGROUP_ROOT */
  ids(): bigint[] {
    const directories = this.#o.paths.length > 0 ? this.#o.paths.map((path) => this.#named(path)) : this.#processes();
    const ids = directories.map(idOf).filter((id) => id !== undefined);
    if (ids.length === 0) throw untold(`there is no cgroup ${directories.join(' or ')}: kubelet does not run, or it runs elsewhere`);
    return ids;
  }

  /** @throws CulvertError CGROUP_ROOT for the root itself, and for what is too deep */
  #named(path: string): string {
    const directory = join(this.#o.cgroupRoot, path);
    const below = relative(this.#o.cgroupRoot, directory);
    if (below === '') throw untold(`${path} is the root of cgroup v2, in which everybody may be`);
    if (below.startsWith('..')) throw untold(`${path} leads out of ${this.#o.cgroupRoot}`);
    if (below.split('/').length > wire.CGROUP_LEVELS) throw untold(`${path} is more than ${wire.CGROUP_LEVELS} levels deep`);
    return directory;
  }

  /** Directories of the processes that are kubelet. Processes are looked through only when one that was known is gone. */
  #processes(): string[] {
    const lives = ({ pid, started, directory }: Found): boolean =>
      started !== undefined && startTime(pid, this.#o.procRoot) === started && idOf(directory) !== undefined;
    if (this.#found.length === 0 || !this.#found.every(lives)) this.#found = this.#find();
    return this.#found.map(({ directory }) => directory);
  }

  #find(): Found[] {
    const { procRoot, nodeNetns } = this.#o;
    const node = namespaceId(nodeNetns);
    const tree = openCgroups(procRoot);
    const found = processes(procRoot).flatMap((pid): Found[] => {
      const started = startTime(pid, procRoot);
      try {
        if (!NAMES.has(readFileSync(`${procRoot}/${pid}/comm`, 'utf8').trim())) return [];
        if (namespaceId(`${procRoot}/${pid}/ns/net`) !== node) return [];
        const directory = this.#directoryOf(pid, tree);
        // a container of the host's network may run a process of any name; below kubelet's own slice its tree is kubelet-kubepods.slice
        return directory.includes('kubepods') ? [] : [{ pid, started, directory }];
      } catch (error) {
        if (startTime(pid, procRoot) !== started || isGone(error)) return []; // it ended meanwhile
        throw error;
      }
    });
    if (found.length === 0) {
      const names = [...NAMES].join(', ');
      throw untold(`no process of the node named ${names} is seen`, `give the agent the host's process namespace (hostPID), ${REMEDY}`);
    }
    return found;
  }

  #directoryOf(pid: number, tree: CgroupTree): string {
    const below = relative(this.#o.cgroupRoot, tree.directory(cgroupOf(pid, this.#o.procRoot)));
    if (below === '') {
      throw untold(
        `process ${pid} runs in the root of cgroup v2, where it cannot be told from others`,
        `run kubelet as a service, which has a cgroup of its own, ${REMEDY}`,
      );
    }
    return this.#named(below);
  }
}

function untold(cause: string, remedy = REMEDY): CulvertError {
  return new CulvertError('CGROUP_ROOT', `exempt kubelet by its cgroup: ${cause} (remedy: ${remedy})`);
}

/** undefined when there is no such cgroup now */
function idOf(directory: string): bigint | undefined {
  try {
    return cgroupId(directory);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return isSystem(error, 'ENOENT') || isSystem(error, 'ESRCH');
}
