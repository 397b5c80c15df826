/**
 * Who is the tunnel: the cgroup v2 id of each ZDS peer, told to the datapath before the first Add. It stays while any process of
 * that cgroup which ever connected lives: a draining tunnel has left ZDS and still carries connections.
 */
import type { Peer } from '../../addon/index.d.ts';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { RedirectDriver } from '../redirect/driver.ts';
import { cgroupOf, type CgroupTree } from '../sys/cgroup.ts';
import { processes, startTime } from '../sys/procfs.ts';

export interface TunnelsOptions {
  driver: Pick<RedirectDriver, 'trustTunnel' | 'distrustTunnel' | 'trustedTunnels'>;
  log: Logger;
  cgroups: Pick<CgroupTree, 'mount' | 'directory'>;
  /** id of a cgroup v2 directory */
  cgroupId: (path: string) => bigint;
  /** default /proc */
  proc?: string;
}

export class TrustedTunnels {
  readonly #o: TunnelsOptions;
  readonly #proc: string;
  /** cgroup id -> pid -> start time: a pid alone may be another process by now */
  readonly #trusted = new Map<bigint, Map<number, bigint | undefined>>();
  /** trusted by an earlier run of this agent, and not heard of since: a tunnel that drains, or one that ended meanwhile */
  readonly #inherited: Set<bigint>;

  constructor(options: TunnelsOptions) {
    this.#o = options;
    this.#proc = options.proc ?? '/proc';
    this.#inherited = new Set(options.driver.trustedTunnels());
  }

  /** Never throws: a tunnel that can't be told by its cgroup is served, and its listeners are taken by pid. */
  trust(peer: Peer): void {
    try {
      const id = this.#idOf(peer.pid);
      const living = this.#trusted.get(id) ?? new Map<number, bigint | undefined>();
      living.set(peer.pid, startTime(peer.pid, this.#proc));
      this.#trusted.set(id, living);
      this.#inherited.delete(id);
      this.#o.driver.trustTunnel(id);
      this.#o.log.info({ pid: peer.pid, cgroup: String(id) }, 'tunnel trusted');
    } catch (error) {
      this.#o.log.error(
        { pid: peer.pid, error: describe(error) },
        'tunnel can not be told by its cgroup; only what it listens on when it acknowledges is taken',
      );
    }
  }

  /** Takes trust from cgroups whose tunnels have all ended. Every few seconds. */
  sweep(): void {
    for (const [id, known] of this.#trusted) {
      for (const [pid, started] of known) {
        const now = startTime(pid, this.#proc);
        if (now === undefined || now !== started) known.delete(pid);
      }
      if (known.size === 0 && this.#distrust(id)) this.#trusted.delete(id);
    }
    if (this.#inherited.size === 0) return;
    const populated = this.#populated();
    for (const id of this.#inherited) if (!populated.has(id) && this.#distrust(id)) this.#inherited.delete(id);
  }

  #distrust(id: bigint): boolean {
    try {
      this.#o.driver.distrustTunnel(id);
      this.#o.log.info({ cgroup: String(id) }, 'tunnel gone, no longer trusted');
      return true;
    } catch (error) {
      this.#o.log.warn({ cgroup: String(id), error: describe(error) }, 'tunnel is gone, but its trust was not taken back');
      return false;
    }
  }

  #idOf(pid: number): bigint {
    const directory = this.#o.cgroups.directory(cgroupOf(pid, this.#proc));
    if (directory === this.#o.cgroups.mount)
      throw new CulvertError('CGROUP_ROOT', `tell tunnel ${pid} by its cgroup: it runs in the root of cgroup v2, where everybody may be`);
    return this.#o.cgroupId(directory);
  }

  /** Ids of all cgroups that a process is in. One that can't be read counts as not there: its tunnel connects again if it lives. */
  #populated(): Set<bigint> {
    const paths = new Set<string>();
    for (const pid of processes(this.#proc)) {
      try {
        paths.add(cgroupOf(pid, this.#proc));
      } catch {
        // ended since the directory was read, or in no cgroup v2
      }
    }
    const ids = new Set<bigint>();
    for (const path of paths) {
      try {
        ids.add(this.#o.cgroupId(this.#o.cgroups.directory(path)));
      } catch {
        // removed since
      }
    }
    return ids;
  }
}
