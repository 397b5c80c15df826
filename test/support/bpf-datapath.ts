/**
 * The compiled programs, attached to a throw-away cgroup and one throw-away pod, without agent and driver: what a test of the
 * programs themselves needs. Three network namespaces on a bridge: `pod` (enrolled), `outside` (another pod), and the node, whose
 * connections are exempt as probes.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, statSync } from 'node:fs';
import { countsOf, mapsOf, podState, REASON, reasonOf, type Maps, type ReasonName } from '../../src/maps/index.ts';
import { cgroupPrograms, CGROUP_PROGRAMS, SK_LOOKUP_ATTACH } from '../../src/redirect/ebpf/attach-points.ts';
import { loadPodProgram, podTemplate } from '../../src/redirect/ebpf/pod-program.ts';
import { bpfObject, native, type LoadedObject } from '../../src/sys/native.ts';
import { expectNothingLeft, idsOf } from './bpf-leftovers.ts';
import { SocketProcess } from './bpf-sockets.ts';
import { TestNode, type TestPod } from './netns.ts';

export type Form = 'v4' | 'v6' | 'mapped';
export const forms: Form[] = ['v4', 'v6', 'mapped'];
export type Reasons = Partial<Record<ReasonName, number>>;

const RULES = ['pref 32764 fwmark 0x111/0xfff lookup 100', 'pref 32765 fwmark 0x111/0xfff prohibit'];

export class Datapath {
  readonly node: TestNode;
  readonly pod: TestPod;
  readonly outsidePod: TestPod;
  readonly maps: Maps;
  /** netns cookie of the pod */
  readonly cookie: bigint;
  /** in the pod: a process of the app, and one of the tunnel's cgroup */
  readonly app: SocketProcess;
  readonly tunnel: SocketProcess;
  /** in another pod, and in the node's netns */
  readonly outside: SocketProcess;
  readonly kubelet: SocketProcess;
  readonly #loaded: LoadedObject;
  readonly #fds: number[];
  readonly #processes: SocketProcess[];

  private constructor(parts: {
    node: TestNode;
    pod: TestPod;
    outsidePod: TestPod;
    cookie: bigint;
    loaded: LoadedObject;
    fds: number[];
    processes: [SocketProcess, SocketProcess, SocketProcess, SocketProcess];
  }) {
    this.node = parts.node;
    this.pod = parts.pod;
    this.outsidePod = parts.outsidePod;
    this.cookie = parts.cookie;
    this.#loaded = parts.loaded;
    this.#fds = parts.fds;
    this.maps = mapsOf(parts.loaded);
    this.#processes = parts.processes;
    [this.app, this.tunnel, this.outside, this.kubelet] = parts.processes;
  }

  /** @param constants over the defaults of bpf/lib/config.h */
  static async create(constants: Record<string, number | bigint> = {}): Promise<Datapath> {
    const node = await TestNode.create('bpf');
    const processes: SocketProcess[] = [];
    const fds: number[] = [];
    let loaded: LoadedObject | undefined;
    try {
      const pod = await node.pod('pod', 2);
      const outsidePod = await node.pod('outside', 3);
      redirectRoutes(pod);
      const start = (cgroup: string, netns: string): SocketProcess => {
        const process = SocketProcess.start(node.cgroupPath(cgroup), netns);
        processes.push(process);
        return process;
      };
      const app = start('app', pod.netns);
      const tunnel = start('tunnel', pod.netns);
      const outside = start('app', outsidePod.netns);
      const kubelet = start('kubelet', node.nodeNetns);
      const cookie = await app.netnsCookie();
      loaded = native.bpfLoad(bpfObject(), {
        rodata: { node_netns: await kubelet.netnsCookie(), instance: 1n, ...constants },
        reuse: {},
        maxEntries: {},
      });
      attach(loaded, node.cgroupRoot, pod.netns, cookie, fds);
      const datapath = new Datapath({ node, pod, outsidePod, cookie, loaded, fds, processes: [app, tunnel, outside, kubelet] });
      datapath.trust('tunnel');
      return datapath;
    } catch (error) {
      await end(processes, fds, loaded, node);
      throw error;
    }
  }

  /** Another process in the pod's netns. */
  start(cgroup: string): SocketProcess {
    const process = SocketProcess.start(this.node.cgroupPath(cgroup), this.pod.netns);
    this.#processes.push(process);
    return process;
  }

  /** Admits a cgroup as a tunnel's. */
  trust(cgroup: string): void {
    // on 64-bit kernels a cgroup's id is its inode
    this.maps.tunnels.set(statSync(this.node.cgroupPath(cgroup), { bigint: true }).ino, 1n);
  }

  /** As the agent does it: addresses first, `pods` last. */
  enrol(state: keyof typeof podState = 'POD_ACTIVE', flags = 0): void {
    for (const addr of [this.pod.ip4, this.pod.ip6]) this.maps.podByAddr.set(addr, this.cookie);
    for (const addr of [this.pod.ip4, this.pod.ip6, '127.0.0.1', '::1']) this.maps.own.set({ cookie: this.cookie, addr }, 1);
    this.maps.pods.set(this.cookie, { state: podState[state], flags });
  }

  /** Out again, nothing of the pod in any map. */
  withdraw(): void {
    const { maps, cookie } = this;
    maps.pods.delete(cookie);
    maps.own.deleteWhere(() => true);
    maps.podByAddr.deleteWhere(() => true);
    maps.inner.deleteWhere(() => true);
    maps.exempt.deleteWhere(() => true);
    maps.listeners.deleteWhere(() => true);
    maps.generation.deleteWhere(() => true);
    maps.counters.deleteWhere(() => true);
    maps.settings.set(0, { event_mask: 0, istio_probes: 0 });
  }

  /** What was counted for the pod while `act` ran. */
  async reasons(act: () => Promise<unknown>): Promise<Reasons> {
    const before = countsOf(this.maps, this.cookie);
    await act();
    return difference(before, countsOf(this.maps, this.cookie));
  }

  /** An address of a pod as an app of that kind writes it. */
  address(pod: TestPod, form: Form): string {
    return { v4: pod.ip4, v6: pod.ip6, mapped: `::ffff:${pod.ip4}` }[form];
  }

  /** Takes everything away. @throws when something stays */
  async close(): Promise<void> {
    await end(this.#processes, this.#fds, this.#loaded, this.node);
  }
}

export const familyOf = (form: Form): 4 | 6 => (form === 'v4' ? 4 : 6);

export function difference(before: Map<number, number>, after: Map<number, number>): Reasons {
  const changed = Object.values(REASON).flatMap((number) => {
    const more = (after.get(number) ?? 0) - (before.get(number) ?? 0);
    return more === 0 ? [] : [[reasonOf(number).name, more]];
  });
  return Object.fromEntries(changed) as Reasons;
}

function attach(loaded: LoadedObject, cgroup: string, netns: string, cookie: bigint, fds: number[]): void {
  const open = (path: string): number => {
    const fd = openSync(path, 'r');
    fds.push(fd);
    return fd;
  };
  const program = (name: string): number => loaded.programs.find((p) => p.name === name)!.fd;
  const cgroupFd = open(cgroup);
  for (const name of cgroupPrograms) fds.push(native.bpfLinkCreate(program(name), cgroupFd, CGROUP_PROGRAMS[name]));
  const lookup = loadPodProgram(podTemplate(loaded), cookie);
  fds.push(lookup, native.bpfLinkCreate(lookup, open(netns), SK_LOOKUP_ATTACH));
}

/** What the driver sets up in an enrolled netns. */
function redirectRoutes(pod: TestPod): void {
  const ip = (...args: string[]): unknown => execFileSync('ip', ['-n', pod.netnsName, ...args]);
  for (const rule of RULES) for (const family of ['-4', '-6']) ip(family, 'rule', 'add', ...rule.split(' '));
  ip('route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', '100', 'src', pod.ip4);
  ip('-6', 'route', 'add', 'local', '::/0', 'dev', 'lo', 'table', '100', 'src', pod.ip6);
  const sysctls = ['ipv4/tcp_fwmark_accept', 'ipv4/fwmark_reflect', 'ipv6/fwmark_reflect'];
  const script = sysctls.map((s) => `echo 1 > /proc/sys/net/${s}`).join(' && ');
  execFileSync('nsenter', [`--net=${pod.netns}`, 'sh', '-c', script]);
}

async function end(processes: SocketProcess[], fds: number[], loaded: LoadedObject | undefined, node: TestNode): Promise<void> {
  for (const process of processes) await process.kill();
  for (const fd of fds.toReversed()) closeSync(fd); // the links are not pinned: this detaches
  const ids = loaded === undefined ? { prog: [], map: [] } : idsOf(loaded);
  loaded?.close();
  await node.close();
  await expectNothingLeft(node, ids);
}
