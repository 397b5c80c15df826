/**
 * Brings what is into line with what should be: for every pod of the node, says to its state table what the source, the plugin
 * and the kernel say. Level-triggered: each pod is steered again whenever something about it changed and whenever it comes to
 * rest, so no event can be lost by coming at the wrong time.
 */
import { Changes } from '../base/changes.ts';
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import { Slots } from '../base/slots.ts';
import type { RedirectDriver } from '../redirect/driver.ts';
import type { MeshSnapshot, PodRecord } from '../sources/source.ts';
import type { ZdsServer } from '../zds/server.ts';
import type { Discovery } from './discovery.ts';
import type { Netns, OpenNetns } from './netns.ts';
import { DRIVER_ANNOTATION, OVERRIDES, podFlags, type Overrides } from './overrides.ts';
import { MeshPod, type Backoff } from './pod.ts';
import { decide, ended, knownSelectors, type EnrolmentRules } from './policy.ts';
import { Registry, type Entry } from './registry.ts';
import { adoptFromKernel, type Leftover } from './restart.ts';
import { found, release, replaced, takeFound, toSeek } from './sandbox.ts';
import { Search } from './search.ts';
import type { EnablementSelector } from './selectors.ts';
import { annotationOverwritten, type Steps, type Subject } from './steps.ts';
import { Troubles, type OnTrouble } from './troubles.ts';

export interface ReconcilerOptions {
  node: string;
  driver: RedirectDriver;
  zds: Pick<ZdsServer, 'open' | 'provide'>;
  steps: Pick<Steps, 'run' | 'adoptListeners'>;
  openNetns: OpenNetns;
  /** looks for the netns of pods that neither plugin nor source names one for; without it they wait for such a word */
  discover?: Discovery;
  log: Logger;
  excludedNamespaces: ReadonlySet<string>;
  /** default: Istio's two */
  enablementSelectors?: readonly EnablementSelector[] | undefined;
  /** whether DNS is captured where a pod says nothing */
  dns: boolean;
  /** pods worked on at once; default 8 */
  concurrency?: number;
  backoff?: Backoff;
  onTrouble?: OnTrouble;
  /** between two searches for the netns of a pod; asked for at every tick; default 1 s to 30 s */
  searchBackoff?: Backoff;
  /** the source sets back what was annotated in this life (Source.keepsAnnotations): nobody need do it twice, and without its pauses */
  annotationsKept?: boolean;
}

/** After so many searches for a pod's netns people should know: the next is seconds away. */
const SEARCHED_IN_VAIN = 3;

export class Reconciler {
  readonly registry = new Registry();
  readonly #o: ReconcilerOptions;
  readonly #slots: Slots;
  readonly #changes = new Changes();
  readonly #search: Search | undefined;
  readonly #troubles: Troubles;
  readonly #rules: EnrolmentRules;
  #snapshot: MeshSnapshot | undefined;
  #leftovers: Leftover[] = [];
  #leaving = false;
  /** pods that do not leave with the others */
  readonly #stay = new Set<string>();
  #closed = false;

  constructor(options: ReconcilerOptions) {
    this.#o = options;
    this.#slots = new Slots(options.concurrency ?? 8);
    this.#rules = { excludedNamespaces: options.excludedNamespaces, selectors: knownSelectors(options.enablementSelectors) };
    this.#troubles = new Troubles(options.onTrouble);
    this.#search =
      options.discover &&
      new Search({
        discovery: options.discover,
        onFound: (entry, netns) => {
          this.#sought(entry, netns);
        },
        onFailed: (entry, error) => {
          if (entry.waitingFor !== undefined) entry.waitingFor = error.message;
          this.#troubles.report(entry, error);
          this.#changes.notify();
        },
        backoff: options.searchBackoff ?? { firstMs: 1000, maxMs: 30_000 },
      });
  }

  /** True once the first snapshot of the source was worked in and tunnels are served. */
  get started(): boolean {
    return this.#snapshot !== undefined;
  }

  apply(snapshot: MeshSnapshot): void {
    const first = this.#snapshot === undefined;
    this.#snapshot = snapshot;
    const mine = [...snapshot.pods.values()].filter((record) => record.node === this.#o.node);
    if (first) this.#adopt(mine);
    const seen = new Set(mine.map((record) => record.uid));
    for (const record of mine) this.#update(this.registry.get(record.uid) ?? this.#create(record), record);
    for (const entry of this.registry.all()) {
      if (seen.has(entry.pod.subject.uid)) continue;
      entry.record = undefined;
      entry.pod.subject.deleted = true;
    }
    for (const entry of this.registry.all()) this.#steer(entry);
    if (first) {
      this.#o.zds.open(); // every pod that a tunnel may be serving is in its set now
      if (mine.some((record) => record.netns === undefined)) void this.#o.discover?.survey();
    }
    this.#changes.notify();
  }

  /** Netns that vanished, namespaces that could not be opened before, leftovers that could not be removed. Cheap; every few seconds. */
  tick(): void {
    for (const entry of this.registry.all()) {
      if (entry.waitingFor !== undefined || entry.pod.subject.netns?.gone() === true || this.#overdue(entry)) this.#steer(entry);
    }
    void this.removeLeftovers();
  }

  /** A tunnel may already serve what our maps do not know it serves. */
  tunnelConnected(pid: number): void {
    for (const { pod } of this.registry.all()) this.#o.steps.adoptListeners(pod.subject, pid);
  }

  tunnelReady(): void {
    for (const { pod } of this.registry.all()) if (pod.state === 'pending' || (pod.inherited && pod.state === 'joining')) pod.retryNow();
  }

  tunnelsGone(): void {
    for (const { pod } of this.registry.all()) pod.send('tunnelGone');
  }

  /** The plugin's word on a sandbox; undefined: it was removed. */
  sandbox(entry: Entry, sandbox: Entry['sandbox']): void {
    entry.sandbox = sandbox;
    entry.retired = sandbox === undefined ? entry.pod.subject.netns?.cookie : undefined;
    this.#steer(entry);
    if (sandbox !== undefined && entry.pod.state === 'pending') entry.pod.retryNow();
  }

  /** Resolves with the first defined answer, asked after every change; undefined when the time is over. Rejects when asking throws. */
  until<T>(ask: () => T | undefined, ms: number): Promise<T | undefined> {
    return this.#changes.until(ask, ms);
  }

  /**
   * Takes every pod out of the mesh, in order, and lets none in any more: the node is left for good. Pods that are not out after
   * `graceMs` go at once.
   * @param but stay as they are: somebody else has them now
   * @returns those that are still in after `deadlineMs`
   */
  async leave(graceMs: number, deadlineMs: number, but: readonly Entry[] = []): Promise<Entry[]> {
    this.#leaving = true;
    for (const entry of but) this.#stay.add(entry.pod.subject.uid);
    for (const entry of this.registry.all()) {
      if (entry.record !== undefined) entry.decision = this.#decide(entry.record);
      this.#steer(entry);
    }
    const still = (): Entry[] => this.registry.all().filter(({ pod }) => pod.state !== 'out' && !this.#stay.has(pod.subject.uid));
    const out = (): true | undefined => (still().length === 0 ? true : undefined);
    if ((await this.until(out, graceMs)) === true) return [];
    for (const { pod } of still()) {
      pod.subject.deleted = true; // nobody is waited for any more
      pod.send('deleted');
    }
    await this.until(out, deadlineMs - graceMs);
    return still();
  }

  /** Stops at what is: everything enrolled stays so. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#search?.close();
    await Promise.all(this.registry.all().map(({ pod }) => pod.close()));
    for (const { pod } of this.registry.all()) pod.subject.netns?.close();
  }

  async removeLeftovers(): Promise<void> {
    const todo = this.#leftovers;
    this.#leftovers = [];
    for (const leftover of todo) {
      try {
        await this.#o.driver.drain(leftover.cookie);
        await this.#o.driver.remove(leftover.cookie, leftover.netns?.fd, 0);
        leftover.netns?.close();
        this.#o.log.info({ pod: leftover.name, cookie: String(leftover.cookie) }, 'leftover removed');
      } catch (error) {
        this.#o.log.warn(
          { pod: leftover.name, cookie: String(leftover.cookie), error: describe(error) },
          'leftover not removed, trying again',
        );
        this.#leftovers.push(leftover);
      }
    }
  }

  #adopt(mine: PodRecord[]): void {
    const records = new Map(mine.map((record) => [record.uid, record]));
    this.#leftovers = adoptFromKernel(this.#o.driver.snapshot(), records, this.#o.openNetns, {
      adopt: (record, kernel, netns) => {
        const entry = this.#create(record);
        if (kernel !== undefined) {
          if (record.netns === undefined && netns !== undefined) entry.netns = 'found';
          Object.assign(entry.pod.subject, { cookie: kernel.cookie, datapath: kernel.state, netns } satisfies Partial<Subject>);
        }
        return { entry, wanted: this.#decide(record).enrolled };
      },
      provide: (workload) => {
        this.#o.zds.provide(workload);
      },
    });
    void this.removeLeftovers();
  }

  #create(record: PodRecord): Entry {
    const subject: Subject = {
      uid: record.uid,
      namespace: record.namespace,
      name: record.name,
      serviceAccount: record.serviceAccount,
      flags: this.#overrides({}).flags,
      netns: undefined,
      cookie: undefined,
      datapath: 'none',
      deleted: false,
      annotation: undefined,
    };
    const backoff = this.#o.backoff ?? { firstMs: 200, maxMs: 15_000 };
    const pod = new MeshPod(subject, this.#o.steps, this.#slots, backoff, () => {
      this.#podChanged(entry);
    });
    const decision = this.#decide(record);
    const entry: Entry = {
      pod,
      record,
      decision,
      sandbox: undefined,
      retired: undefined,
      alias: undefined,
      netns: 'named',
      waitingFor: undefined,
      warnings: new Map(),
      logged: undefined,
    };
    this.#readOverrides(entry, record);
    this.registry.set(entry);
    return entry;
  }

  #update(entry: Entry, record: PodRecord): void {
    if (entry.record?.netns !== record.netns) entry.sandbox = undefined; // the source is newer than the plugin's word
    if (entry.record?.ips.join() !== record.ips.join() || entry.record.phase !== record.phase) this.#search?.renew(entry);
    entry.record = record;
    entry.decision = this.#decide(record);
    const { subject } = entry.pod;
    subject.deleted = false;
    // at enrolment only, as Istio does, but for the driver
    if (entry.pod.state === 'out') this.#readOverrides(entry, record);
    else this.#readDriver(entry, record);
  }

  /** A pod that is in is moved once it is at rest; one that is on its way is prepared by the new one at its next attempt. */
  #readDriver(entry: Entry, { annotations }: PodRecord): void {
    const { driver, warnings } = this.#overrides(annotations);
    note(entry, DRIVER_ANNOTATION, warnings);
    entry.pod.subject.driver = driver;
  }

  #overrides(annotations: Record<string, string>): Overrides {
    return podFlags(annotations, { dns: this.#o.dns, driver: this.#o.driver.name });
  }

  #readOverrides({ pod, warnings }: Entry, { namespace, name, annotations }: PodRecord): void {
    const overrides = this.#overrides(annotations);
    const { flags, driver, virtualInterfaces } = overrides;
    Object.assign(pod.subject, { flags, driver, virtualInterfaces } satisfies Partial<Subject>);
    for (const key of OVERRIDES) {
      const warning = overrides.warnings.get(key);
      if (warning !== undefined && warning !== warnings.get(key)) this.#o.log.warn({ pod: `${namespace}/${name}` }, warning);
      note({ warnings }, key, overrides.warnings);
    }
  }

  #decide(record: PodRecord): ReturnType<typeof decide> {
    if (this.#leaving && !this.#stay.has(record.uid)) return { enrolled: false, reason: 'the agent leaves this node for good' };
    return decide(record, this.#snapshot?.namespaces.get(record.namespace), this.#rules);
  }

  #podChanged(entry: Entry): void {
    const { pod } = entry;
    const fields = { pod: `${pod.subject.namespace}/${pod.subject.name}`, state: pod.state, datapath: pod.subject.datapath };
    const settled = pod.state === 'enrolled' || pod.state === 'out'; // what is worth a line at the usual level
    if (pod.error === undefined || pod.error === entry.logged) this.#o.log[settled ? 'info' : 'debug'](fields, `pod is ${pod.state}`);
    else this.#o.log.warn({ ...fields, error: describe(pod.error), retryable: pod.error.retryable }, 'pod step failed');
    entry.logged = pod.error;
    this.#troubles.follow(entry);
    // later, not within the transition that led here
    queueMicrotask(() => {
      if (this.#closed) return;
      if (pod.atRest) this.#steer(entry);
      this.#changes.notify();
    });
  }

  #steer(entry: Entry): void {
    const { pod, record } = entry;
    entry.waitingFor = undefined;
    if (record === undefined) {
      pod.send('deleted');
      if (pod.state === 'out') this.#drop(entry);
      return;
    }
    const kept = this.#o.annotationsKept === true && pod.subject.annotation !== undefined;
    const overwritten = !kept && annotationOverwritten(pod.subject, record);
    if (!entry.decision.enrolled) {
      pod.send(ended(record) ? 'deleted' : 'unwanted'); // an ended pod's peers have nothing to wait for
      if (pod.state === 'out') release(entry);
      if (overwritten) pod.send('overwritten');
      return;
    }
    if (overwritten && pod.state === 'enrolled') pod.send('overwritten');
    const { servedFor, driver } = pod.subject;
    if (pod.state === 'enrolled' && servedFor !== undefined && (servedFor.driver !== driver || this.#overdue(entry))) pod.send('moved');
    if (replaced(entry, this.#o.openNetns)) {
      pod.send('netnsGone');
      if (pod.state !== 'out') return; // it comes to rest, and is steered again
      release(entry);
    }
    if (toSeek(entry)) this.#search?.want(entry);
    if (!found(entry, this.#o.openNetns)) return;
    if (pod.state === 'adopting') pod.retryNow();
    pod.send('wanted');
  }

  #overdue({ pod: { subject } }: Entry): boolean {
    return subject.cookie !== undefined && this.#o.driver.overdue?.(subject.cookie) === true;
  }

  /** Somebody looked for its netns. */
  #sought(entry: Entry, netns: Netns | undefined): void {
    const { subject } = entry.pod;
    if (entry.record === undefined || !entry.decision.enrolled) {
      netns?.close();
      return;
    }
    const path = subject.netns?.path;
    const steer = takeFound(entry, netns);
    if (subject.netns !== undefined && subject.netns.path !== path)
      this.#o.log.debug({ pod: `${subject.namespace}/${subject.name}`, netns: subject.netns.path }, 'network namespace found');
    if (steer) this.#steer(entry);
    else if ((this.#search?.misses(entry) ?? 0) >= SEARCHED_IN_VAIN) this.#troubles.report(entry, notFound(entry.record));
    this.#changes.notify();
  }

  #drop(entry: Entry): void {
    release(entry);
    this.registry.delete(entry);
  }
}

function note({ warnings }: Pick<Entry, 'warnings'>, key: string, found: Overrides['warnings']): void {
  const warning = found.get(key);
  if (warning === undefined) warnings.delete(key);
  else warnings.set(key, warning);
}

function notFound({ namespace, name }: PodRecord): CulvertError {
  const what = `find network namespace of pod ${namespace}/${name}`;
  return new CulvertError('NETNS_UNKNOWN', `${what}: no process of it is in one that has an address of the pod`);
}
