/** A node with a real driver on its own cgroup and bpffs, a stand-in tunnel and pods, for the tests of the redirect. */
import { closeSync, openSync } from 'node:fs';
import { createLogger } from '../../../src/base/log.ts';
import { openPinnedMaps, type Maps } from '../../../src/maps/index.ts';
import { createEbpfDriver, type EbpfDriver, type EbpfOptions } from '../../../src/redirect/ebpf/index.ts';
import type { EnrolledNetns, PodFlags, PodTarget } from '../../../src/redirect/driver.ts';
import { bpfObject, native } from '../../../src/sys/native.ts';
import { expectNothingLeft } from '../../support/bpf-leftovers.ts';
import { TestNode, type Endpoint, type TestPod } from '../../support/netns.ts';

export const TUNNEL_PORTS = [15001, 15006, 15008];
export const INSTANCE = 0xc0ffeen;

export class Scene {
  readonly node: TestNode;
  readonly pinDir: string;
  driver: EbpfDriver;
  readonly #drivers: EbpfDriver[] = [];

  private constructor(node: TestNode) {
    this.node = node;
    this.pinDir = `${node.bpffs}/agent`;
    this.driver = this.start();
  }

  static async create(): Promise<Scene> {
    const node = await TestNode.create('red');
    try {
      return new Scene(node);
    } catch (error) {
      await node.close();
      throw error;
    }
  }

  /** A driver as an agent makes it. The tunnel's cgroup is trusted. */
  start(change: Partial<EbpfOptions> = {}): EbpfDriver {
    const driver = createEbpfDriver({
      object: bpfObject(),
      pinDir: this.pinDir,
      cgroupRoot: this.node.cgroupRoot,
      nodeNetns: this.node.nodeNetns,
      instance: INSTANCE,
      version: 'test',
      maxPods: 110,
      log: createLogger('test', process.env['CULVERT_TEST_LOG'] ?? 'silent'),
      ...change,
    });
    this.#drivers.push(driver);
    driver.trustTunnel(native.cgroupId(this.node.cgroupPath('tunnel')));
    return driver;
  }

  /** The agent ends and starts again. */
  restart(change: Partial<EbpfOptions> = {}): void {
    this.driver.close();
    this.driver = this.start(change);
  }

  app(pod: TestPod): Promise<Endpoint> {
    return this.node.process('app', pod.netns);
  }

  tunnel(): Promise<Endpoint> {
    return this.node.process('tunnel', this.node.nodeNetns);
  }

  target(pod: TestPod, netnsFd: number, flags: Partial<PodFlags> = {}): PodTarget {
    return {
      uid: `uid-${pod.name}`,
      namespace: 'test',
      name: pod.name,
      netnsFd,
      netnsCookie: native.netnsCookie(netnsFd),
      netnsPath: pod.netns,
      flags: { dns: false, ingressMode: false, markOnly: false, ...flags },
    };
  }

  prepare(pod: TestPod, flags: Partial<PodFlags> = {}): Promise<EnrolledNetns> {
    return withFd(pod.netns, (fd) => this.driver.prepare(this.target(pod, fd, flags)));
  }

  /** Prepared, the tunnel listening, active. @returns the cookie */
  async enrol(pod: TestPod, tunnel: Endpoint, name = 'tunnel', flags: Partial<PodFlags> = {}): Promise<bigint> {
    const { cookie } = await this.prepare(pod, flags);
    await tunnel.call('serve', { name: `${name}-${pod.name}`, netns: pod.netns, ports: TUNNEL_PORTS });
    this.driver.activate(cookie);
    return cookie;
  }

  remove(pod: TestPod, cookie: bigint, deadlineMs = 0): Promise<void> {
    return withFd(pod.netns, (fd) => this.driver.remove(cookie, fd, deadlineMs));
  }

  warnings(pod: TestPod, cookie: bigint): Promise<string[]> {
    return withFd(pod.netns, (fd) => this.driver.warnings(cookie, fd));
  }

  maps(): Maps {
    return openPinnedMaps(`${this.pinDir}/maps`);
  }

  async close(): Promise<void> {
    try {
      for (const driver of this.#drivers) driver.close();
    } finally {
      await this.node.close();
    }
    await expectNothingLeft(this.node, { prog: [], map: [] });
  }
}

export async function withFd<T>(path: string, use: (fd: number) => Promise<T> | T): Promise<T> {
  const fd = openSync(path, 'r');
  try {
    return await use(fd);
  } finally {
    closeSync(fd);
  }
}

export interface Link {
  id: number;
  program: number;
  /** 0 when the netns died; undefined for cgroup links */
  netnsIno: number | undefined;
}

/** A pinned link and the program it runs. */
export function linkOf(path: string): Link {
  const fd = native.bpfGet(path);
  try {
    const info = native.bpfInfo(fd);
    return { id: info.id, program: info.progId ?? 0, netnsIno: info.netnsIno };
  } finally {
    native.closeFd(fd);
  }
}

/** Polls without guessing how long something takes. */
export async function eventually(what: string, test: () => boolean | Promise<boolean>, ms = 30_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await test())) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
