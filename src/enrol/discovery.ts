/**
 * Finds the network namespaces of running pods whose sandboxes nobody announced to this agent: of pods that were there before it. By
 * what the plugin told an earlier agent, by what an earlier walk saw, and else by a walk over /proc.
 *
 * A process of the pod is no proof: it may have entered another netns (a CNI daemon, docker in a pod, somebody debugging). A netns is
 * the pod's when it has one of the pod's addresses; of several, the one of the oldest process, which in most runtimes is the sandbox's.
 */
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { CONFIG_HASH_ANNOTATION, type PodRecord } from '../sources/source.ts';
import { canonicalIp } from '../state/address.ts';
import { namespaceId, netnsMounts, startTime } from '../sys/procfs.ts';
import { isProcessPath, type Netns, type OpenNetns } from './netns.ts';
import { canonicalUid } from './pod-cgroup.ts';
import { netnsOf, ownerKeys, podProcesses, type PodProcess, type PodProcesses } from './pod-processes.ts';

export interface Sought {
  record: PodRecord;
  /** of the netns that it had so far, or that the kernel's side remembers: it stays that one as long as anything of the pod is in it */
  cookie: bigint | undefined;
}

export interface Discovery {
  /**
   * Never rejects. @returns by uid, open, for the caller to close; SYSTEM for those whose netns could not be looked for (/proc cannot be
   * read); without the pods of which nothing was found
   */
  find(sought: readonly Sought[]): Promise<Map<string, Netns | CulvertError>>;
  /** Looks around, so that pods found later are found without a walk. Never rejects. */
  survey(): Promise<void>;
}

export interface DiscoveryOptions {
  /** procfs of the node */
  procRoot: string;
  /** path of the node's own netns */
  nodeNetns: string;
  /** netns that the plugin announced for the pod and has not taken back */
  announced: (pod: PodRecord) => string[];
  openNetns: OpenNetns;
  /** of a netns, by an open descriptor of it */
  addressesOf: (netnsFd: number) => string[];
  log: Logger;
}

/** Netns of one pod, the oldest process's first: whoever may make namespaces in a pod can make thousands. */
const MOST_LOOKED_AT = 64;

export class ProcDiscovery implements Discovery {
  readonly #o: DiscoveryOptions;
  /** of the last walk; each of them may have ended since */
  #seen: PodProcesses = new Map();
  /** one walk serves all who ask meanwhile and before it */
  #walking: Promise<void> | undefined;

  constructor(options: DiscoveryOptions) {
    this.#o = options;
  }

  async find(sought: readonly Sought[]): Promise<Map<string, Netns | CulvertError>> {
    const found = new Map<string, Netns>();
    const rest = new Set(sought);
    const each = (look: (pod: Sought) => Netns | undefined): void => {
      for (const pod of rest) {
        const netns = look(pod);
        if (netns === undefined) continue;
        found.set(pod.record.uid, netns);
        rest.delete(pod);
      }
    };
    each((pod) => this.#announced(pod));
    await this.#walking?.catch(() => undefined); // the first survey, most of all: what it sees need not be looked for again
    each((pod) => this.#ofProcesses(pod, false));
    try {
      if (rest.size > 0) {
        await this.#walk();
        each((pod) => this.#ofProcesses(pod, true));
      }
      this.#preferMounts(found, rest);
    } catch (caught) {
      const error = caught instanceof CulvertError ? caught : new CulvertError('SYSTEM', 'look for network namespaces of pods', caught);
      return new Map<string, Netns | CulvertError>([...found, ...[...rest].map(({ record }) => [record.uid, error] as const)]);
    }
    return found;
  }

  async survey(): Promise<void> {
    try {
      await this.#walk();
    } catch (error) {
      this.#o.log.warn({ error: describe(error) }, 'processes of pods not surveyed'); // whoever asks for a pod gets the error
    }
  }

  #walk(): Promise<void> {
    const { procRoot, nodeNetns } = this.#o;
    return (this.#walking ??= podProcesses(procRoot, namespaceId(nodeNetns))
      .then((seen) => {
        this.#seen = seen;
      })
      .finally(() => {
        this.#walking = undefined;
      }));
  }

  #announced(pod: Sought): Netns | undefined {
    for (const path of this.#o.announced(pod.record)) {
      const netns = this.#open(path);
      if (netns === undefined) continue;
      if (this.#owns(netns, pod.record)) return netns;
      netns.close();
    }
    return undefined;
  }

  /**
   * The one it had, if that has an address of the pod; else the oldest that has; else the one it had, as long as a process of it is there.
   * @param all what was seen is all there is: without that, a netns that was seen earlier without an address of the pod says nothing
   */
  #ofProcesses(pod: Sought, all: boolean): Netns | undefined {
    let owned: Netns | undefined;
    let had: Netns | undefined;
    for (const process of this.#processesOf(pod.record)) {
      const netns = this.#enter(process);
      if (netns === undefined) continue;
      const isHad = netns.cookie === pod.cookie;
      if (owned === undefined || isHad) {
        if (this.#owns(netns, pod.record)) {
          owned?.close();
          owned = netns;
          if (isHad || pod.cookie === undefined) break;
          continue;
        }
        if (isHad && had === undefined) {
          had = netns;
          continue;
        }
      }
      netns.close();
    }
    if (owned === undefined && all) return had;
    had?.close();
    return owned;
  }

  #processesOf({ uid, annotations, containerIds = [] }: PodRecord): PodProcess[] {
    const uids = [uid, annotations[CONFIG_HASH_ANNOTATION] ?? ''].flatMap((text) => canonicalUid(text) ?? []);
    const keys = [...uids.flatMap((each) => ownerKeys(each, [])), ...ownerKeys(undefined, containerIds)];
    return keys
      .flatMap((key) => this.#seen.get(key) ?? [])
      .sort((a, b) => (a.started < b.started ? -1 : a.started > b.started ? 1 : a.pid - b.pid))
      .slice(0, MOST_LOOKED_AT);
  }

  /** The netns that this process was seen in, if it still lives and still is in it. */
  #enter({ pid, started, netns: id }: PodProcess): Netns | undefined {
    const { procRoot } = this.#o;
    const path = netnsOf(pid, procRoot);
    const netns = this.#open(path);
    if (netns === undefined) return undefined;
    if (isStill(pid, procRoot, started, id)) return netns;
    netns.close();
    return undefined;
  }

  #open(path: string): Netns | undefined {
    try {
      return this.#o.openNetns(path);
    } catch {
      return undefined; // gone meanwhile
    }
  }

  /** A netns that cannot be entered is nobody's. */
  #owns(netns: Netns, record: PodRecord): boolean {
    const wanted = new Set(record.ips.map((ip) => canonicalIp(ip)));
    try {
      return this.#o.addressesOf(netns.fd).some((address) => wanted.has(canonicalIp(address)));
    } catch (error) {
      const { uid, namespace, name } = record;
      this.#o.log.warn({ pod: `${namespace}/${name}`, uid, netns: netns.path, error: describe(error) }, 'addresses of a netns not read');
      return false;
    }
  }

  /**
   * Runtimes keep a sandbox's netns mounted: that path is there as long as the sandbox is, also while none of its processes runs, and
   * leads to it after a restart of the agent. A pod that was in a netns and has no process in it any more may still be found by it.
   */
  #preferMounts(found: Map<string, Netns>, rest: ReadonlySet<Sought>): void {
    const processes = [...found].filter(([, netns]) => isProcessPath(netns.path));
    if (processes.length === 0 && [...rest].every((pod) => pod.cookie === undefined)) return;
    const mounts = netnsMounts();
    for (const [uid, netns] of processes) {
      const path = mounts.get(inodeOf(netns.path));
      const mounted = path === undefined ? undefined : this.#open(path);
      if (mounted === undefined) continue;
      const [use, leave] = mounted.cookie === netns.cookie ? [mounted, netns] : [netns, mounted];
      leave.close();
      found.set(uid, use);
    }
    const lost = new Map([...rest].flatMap(({ record, cookie }) => (cookie === undefined ? [] : [[cookie, record.uid]])));
    if (lost.size === 0) return;
    for (const path of mounts.values()) {
      const mounted = this.#open(path);
      const uid = mounted && lost.get(mounted.cookie);
      if (mounted === undefined) continue;
      if (uid === undefined || found.has(uid)) mounted.close();
      else found.set(uid, mounted);
    }
  }
}

function isStill(pid: number, proc: string, started: bigint, netns: string): boolean {
  try {
    return startTime(pid, proc) === started && namespaceId(netnsOf(pid, proc)) === netns;
  } catch {
    return false; // it goes just now: EACCES
  }
}

/** "" when nothing is there any more */
function inodeOf(path: string): string {
  try {
    return namespaceId(path)?.split(':')[1] ?? '';
  } catch {
    return '';
  }
}
