/**
 * Who is the tunnel: the cgroup v2 id of each ZDS peer, told to the datapath before the first Add. It stays while any process of
 * that cgroup which ever connected lives: a draining tunnel has left ZDS and still carries connections.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Peer } from '../../addon/index.d.ts';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type { RedirectDriver } from '../redirect/driver.ts';

export interface TunnelsOptions {
  driver: Pick<RedirectDriver, 'trustTunnel' | 'distrustTunnel'>;
  log: Logger;
  /** id of a cgroup v2 directory */
  cgroupId: (path: string) => bigint;
  /** default /proc */
  proc?: string;
}

export class TrustedTunnels {
  readonly #o: TunnelsOptions;
  readonly #proc: string;
  /** cgroup id -> pid -> start time: a pid alone may be another process by now */
  readonly #trusted = new Map<bigint, Map<number, string>>();

  constructor(options: TunnelsOptions) {
    this.#o = options;
    this.#proc = options.proc ?? '/proc';
  }

  /** Never throws: a tunnel that can't be told by its cgroup is served, and its listeners are taken by pid. */
  trust(peer: Peer): void {
    try {
      const id = this.#o.cgroupId(this.#cgroupOf(peer.pid));
      const processes = this.#trusted.get(id) ?? new Map<number, string>();
      processes.set(peer.pid, startTime(this.#proc, peer.pid) ?? '');
      this.#trusted.set(id, processes);
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
    for (const [id, processes] of this.#trusted) {
      for (const [pid, started] of processes) if (startTime(this.#proc, pid) !== started) processes.delete(pid);
      if (processes.size > 0) continue;
      this.#trusted.delete(id);
      try {
        this.#o.driver.distrustTunnel(id);
        this.#o.log.info({ cgroup: String(id) }, 'tunnel gone, no longer trusted');
      } catch (error) {
        this.#o.log.warn({ cgroup: String(id), error: describe(error) }, 'tunnel is gone, but its trust was not taken back');
      }
    }
  }

  #cgroupOf(pid: number): string {
    const line = readFileSync(`${this.#proc}/${pid}/cgroup`, 'utf8')
      .split('\n')
      .find((each) => each.startsWith('0::'));
    const path = line?.slice('0::'.length);
    if (path === undefined) throw new CulvertError('CGROUP_ROOT', `tell tunnel ${pid} by its cgroup: it is in no cgroup v2`);
    if (path === '/')
      throw new CulvertError('CGROUP_ROOT', `tell tunnel ${pid} by its cgroup: it runs in the root of cgroup v2, where everybody may be`);
    return join(cgroup2Mount(readFileSync(`${this.#proc}/self/mountinfo`, 'utf8')), path);
  }
}

/** Found by type: beside v1 hierarchies it is not mounted at /sys/fs/cgroup. @throws CGROUP_ROOT */
export function cgroup2Mount(mountinfo: string): string {
  for (const line of mountinfo.split('\n')) {
    const [mount, filesystem] = line.split(' - ');
    const path = mount?.split(' ')[4];
    if (path !== undefined && filesystem?.startsWith('cgroup2 ') === true) return path;
  }
  throw new CulvertError('CGROUP_ROOT', 'find cgroup v2: no file system of type cgroup2 is mounted');
}

/** Field 22 of /proc/PID/stat; undefined when the process is gone, or only waits to be reaped. */
function startTime(proc: string, pid: number): string | undefined {
  try {
    const stat = readFileSync(`${proc}/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name before it may hold anything
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
