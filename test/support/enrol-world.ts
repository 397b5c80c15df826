/** A node in memory for the tests of enrolment: netns, tunnel, annotations, and a driver whose kernel outlives the agent. */
import { pino } from 'pino';
import { expect, vi } from 'vitest';
import { CulvertError } from '../../src/base/errors.ts';
import type { Netns } from '../../src/enrol/netns.ts';
import { MODE_LABEL, REDIRECTION_ANNOTATION } from '../../src/enrol/policy.ts';
import { Reconciler } from '../../src/enrol/reconciler.ts';
import { reason, summary } from '../../src/enrol/registry.ts';
import { Steps } from '../../src/enrol/steps.ts';
import type { MeshSnapshot, PodRecord } from '../../src/sources/source.ts';
import type { ZdsWorkload } from '../../src/zds/server.ts';
import { FakeDriver } from './fake-driver.ts';

const log = pino({ level: 'silent' });
export const FLAGS = { dns: true, ingressMode: false, markOnly: false };

/** Paths lead to cookies; the fd of an open one is its cookie. */
export class World {
  readonly netns = new Map<string, number>([
    ['/ns/a', 101],
    ['/ns/b', 102],
    ['/ns/c', 103],
  ]);
  /** cookies of those that are open */
  readonly open = new Set<number>();
  readonly #opened = new Map<number, number>();
  readonly driver = new FakeDriver();
  readonly annotations = new Map<string, string>();
  annotateFailures = 0;
  readonly zds: string[] = [];
  readonly set = new Map<string, ZdsWorkload>();
  tunnel: 'acks' | 'nacks' | 'none' | 'hangs' = 'acks';
  release: (() => void) | undefined;
  /** what discovery finds: path by uid */
  readonly processes = new Map<string, string>();
  discoveryFault: CulvertError | undefined;
  /** the uids of each search */
  readonly searches: string[][] = [];
  /** "pod: message" */
  readonly troubles: string[] = [];
  /** the source sets annotations back by itself */
  keepsAnnotations = false;
  excluded = new Set(['kube-system']);
  reconciler!: Reconciler;

  constructor() {
    this.start();
  }

  readonly openNetns = (path: string): Netns => {
    const cookie = this.netns.get(path);
    if (cookie === undefined) throw new CulvertError('NETNS_GONE', `open ${path}`);
    this.open.add(cookie);
    this.#opened.set(cookie, (this.#opened.get(cookie) ?? 0) + 1);
    let closed = false;
    return {
      path,
      fd: cookie,
      cookie: BigInt(cookie),
      gone: () => this.netns.get(path) !== cookie,
      close: () => {
        if (closed) return;
        closed = true;
        const others = (this.#opened.get(cookie) ?? 0) - 1;
        this.#opened.set(cookie, others);
        if (others === 0) this.open.delete(cookie);
      },
    };
  };

  start(): void {
    const { driver, openNetns } = this;
    const zds = {
      connections: () => [],
      open: () => {
        this.zds.push('open');
      },
      provide: (w: ZdsWorkload) => {
        this.zds.push(`provide ${w.uid}${w.netnsFd === undefined ? ' keep' : ''}`);
        this.set.set(w.uid, w);
      },
      add: async (w: ZdsWorkload) => {
        this.zds.push(`add ${w.uid}`);
        driver.calls.push(`zds add ${w.info.name}`);
        this.set.set(w.uid, w);
        if (this.tunnel === 'hangs')
          await new Promise<void>((resolve) => {
            this.release = resolve;
          });
        if (this.tunnel === 'none') throw new CulvertError('ZDS_NO_TUNNEL', 'no tunnel');
        if (this.tunnel === 'nacks') throw new CulvertError('ZDS_NACK', 'bind failed');
        driver.listening.set(BigInt(w.netnsFd ?? 0), [15001]);
        return { pid: 42, uid: 0, gid: 0 };
      },
      del: async (uid: string) => {
        this.zds.push(`del ${uid}`);
        driver.calls.push(`zds del ${uid}`);
        this.set.delete(uid);
        await Promise.resolve();
      },
    };
    const annotate = async (pod: { uid: string }, key: string, value: string | undefined): Promise<void> => {
      await Promise.resolve();
      if (this.annotateFailures > 0) {
        this.annotateFailures--;
        throw new CulvertError('SYSTEM', 'disk full');
      }
      driver.calls.push(`annotate ${pod.uid} ${value ?? 'off'}`);
      if (value === undefined) this.annotations.delete(pod.uid);
      else this.annotations.set(pod.uid, value);
      expect(key).toBe(REDIRECTION_ANNOTATION);
    };
    const steps = new Steps({
      driver,
      zds,
      annotate,
      log,
      graceCapMs: 60,
      graceQuietMs: 20,
      leaveDeadlineMs: 400,
      drainPollMs: 20,
      removeDeadlineMs: 50,
    });
    this.reconciler = new Reconciler({
      node: 'node1',
      driver,
      zds,
      steps,
      openNetns,
      discover: {
        find: async (sought) => {
          this.searches.push(sought.map(({ record }) => record.uid));
          await Promise.resolve();
          const fault = this.discoveryFault;
          if (fault !== undefined) return new Map(sought.map(({ record }) => [record.uid, fault]));
          const paths = sought.map(({ record }) => [record.uid, this.processes.get(record.uid)] as const);
          return new Map(paths.flatMap(([uid, path]) => (path === undefined || !this.netns.has(path) ? [] : [[uid, openNetns(path)]])));
        },
        survey: () => Promise.resolve(),
      },
      onTrouble: ({ name }, error) => this.troubles.push(`${name}: ${error.message}`),
      log,
      excludedNamespaces: this.excluded,
      dns: true,
      backoff: { firstMs: 20, maxMs: 40 },
      annotationsKept: this.keepsAnnotations,
      searchBackoff: { firstMs: 20, maxMs: 40 },
    });
  }

  /** the agent dies and another one starts: kernel, tunnel and annotations stay */
  async restart(): Promise<void> {
    await this.reconciler.close();
    this.driver.calls.length = 0;
    this.zds.length = 0;
    this.set.clear();
    this.start();
  }

  state(uid: string): string {
    const entry = this.reconciler.registry.get(uid);
    return entry === undefined ? 'unknown' : entry.pod.state;
  }
  why(uid: string): string {
    const entry = this.reconciler.registry.get(uid);
    return entry === undefined ? 'unknown' : `${summary(entry)}: ${reason(entry)}`;
  }
  kernel(): string[] {
    return this.driver.snapshot().map((e) => `${e.name} ${e.state}`);
  }
  async settled(uid: string, state: string): Promise<void> {
    await vi.waitFor(
      () => {
        expect(this.state(uid)).toBe(state);
      },
      { interval: 2 },
    );
  }
}

export const pod = (name: string, netns: string | undefined, over: Partial<PodRecord> = {}): PodRecord => ({
  uid: `u-${name}`,
  namespace: 'shop',
  name,
  node: 'node1',
  serviceAccount: 'sa',
  labels: {},
  annotations: {},
  ips: ['10.0.0.1'],
  ...(netns === undefined ? {} : { netns }),
  hostNetwork: false,
  phase: 'Running',
  ...over,
});
export const mesh = (mode: string | undefined, ...pods: PodRecord[]): MeshSnapshot => ({
  trustDomain: 'cluster.local',
  namespaces: new Map([['shop', { name: 'shop', labels: mode === undefined ? {} : { [MODE_LABEL]: mode }, annotations: {} }]]),
  pods: new Map(pods.map((p) => [p.uid, p])),
  services: new Map(),
});
