/** A pod whose processes try to pass for the tunnel, with what container runtimes let a root process do, and more. */

import { countsOf, type Maps } from '../../../src/maps/index.ts';
import { difference, type Reasons } from '../../support/bpf-datapath.ts';
import { codeOf, SocketProcess } from '../../support/bpf-sockets.ts';
import type { TestPod } from '../../support/netns.ts';
import { Scene, withFd } from '../redirect/scene.ts';

/** What containerd and Docker give a container's root. */
const RUNTIME =
  'chown dac_override fsetid fowner mknod net_raw setgid setuid setfcap setpcap net_bind_service sys_chroot kill audit_write'.split(' ');

export const PRIVILEGES = {
  'root of a container': bounded(RUNTIME),
  'root of a container with NET_ADMIN': bounded([...RUNTIME, 'net_admin']),
  'root of a user namespace of its own': ['unshare', '--user', '--map-root-user'],
  'nobody in particular': [...bounded([]), '--reuid=1000', '--regid=1000', '--clear-groups'],
} as const;
export type Privilege = keyof typeof PRIVILEGES;

function bounded(capabilities: string[]): string[] {
  return ['setpriv', `--bounding-set=${['-all', ...capabilities.map((name) => `+${name}`)].join()}`];
}

export const PORT = 8080;
const REACH_MS = 1000;

export interface Listening {
  outbound: number;
  inbound: number;
  hbone: number;
  dns: number;
}

export class AttackScene {
  readonly scene: Scene;
  readonly pod: TestPod;
  readonly outsidePod: TestPod;
  readonly cookie: bigint;
  /** in another pod, with a listener on PORT */
  readonly outside: SocketProcess;
  readonly maps: Maps;
  tunnel: SocketProcess;
  listening: Listening = { outbound: 0, inbound: 0, hbone: 0, dns: 0 };
  readonly #outsideListener: number;
  readonly #processes: SocketProcess[] = [];

  private constructor(scene: Scene, pods: [TestPod, TestPod], cookie: bigint, outside: SocketProcess, listener: number) {
    this.scene = scene;
    [this.pod, this.outsidePod] = pods;
    this.cookie = cookie;
    this.outside = outside;
    this.#outsideListener = listener;
    this.maps = scene.maps();
    this.tunnel = this.start('tunnel');
  }

  static async create(): Promise<AttackScene> {
    const scene = await Scene.create();
    const pod = await scene.node.pod('attacker', 2);
    const outsidePod = await scene.node.pod('outside', 3);
    const outside = SocketProcess.start(scene.node.cgroupPath('app'), outsidePod.netns);
    const { cookie } = await scene.prepare(pod, { dns: true });
    const made = new AttackScene(scene, [pod, outsidePod], cookie, outside, await outside.listen(PORT));
    await made.serve();
    scene.driver.activate(cookie);
    return made;
  }

  /** A process in the pod. */
  start(cgroup: string, through: readonly string[] = []): SocketProcess {
    const process = SocketProcess.start(this.scene.node.cgroupPath(cgroup), this.pod.netns, [...through]);
    this.#processes.push(process);
    return process;
  }

  /** The tunnel listens, as when it is told of the pod. */
  async serve(): Promise<void> {
    const [outbound, inbound, hbone] = [
      await this.tunnel.tunnelListen(15001),
      await this.tunnel.tunnelListen(15006),
      await this.tunnel.tunnelListen(15008),
    ];
    this.listening = { outbound, inbound, hbone, dns: await this.tunnel.tunnelListen(15053) };
  }

  async restartTunnel(): Promise<void> {
    this.tunnel = this.start('tunnel');
    await this.serve();
  }

  /** Who got a connection, by the listener it reached; nobody else may have one. */
  async reached(listener: keyof Listening = 'outbound'): Promise<'tunnel' | 'outside' | 'nobody'> {
    const take = async (who: SocketProcess, fd: number, ms: number): Promise<boolean> => {
      const accepted = await who.accept(fd, ms).catch(() => undefined);
      if (accepted !== undefined) await who.close(accepted.fd);
      return accepted !== undefined;
    };
    const tunnel = await take(this.tunnel, this.listening[listener], REACH_MS);
    if (await take(this.outside, this.#outsideListener, 0)) return 'outside';
    return tunnel ? 'tunnel' : 'nobody';
  }

  /** The same without waiting, for what was refused. */
  async outsideWasReached(): Promise<boolean> {
    return (await codeOf(this.outside.accept(this.#outsideListener, 0))) === undefined;
  }

  async reasons(act: () => Promise<unknown>): Promise<Reasons> {
    const before = countsOf(this.maps, this.cookie);
    await act();
    return difference(before, countsOf(this.maps, this.cookie));
  }

  warnings(): Promise<string[]> {
    return this.scene.warnings(this.pod, this.cookie);
  }

  reconcile(): Promise<unknown> {
    return withFd(this.pod.netns, (fd) => this.scene.driver.reconcile(this.scene.target(this.pod, fd, { dns: true })));
  }

  async close(): Promise<void> {
    for (const process of [...this.#processes, this.outside]) await process.kill();
    this.maps.close();
    await this.scene.close();
  }
}
