/**
 * Redirect by the rules that Istio puts into a pod, through iptables or nftables. What is captured is the kernel's to know, and stays
 * so without an agent; memory holds descriptors and the stage that each netns was brought to.
 */
import { CulvertError, describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { Slots } from '../../base/slots.ts';
import { wire } from '../../maps/layout.ts';
import { Netns } from '../../sys/netns.ts';
import type { DatapathEvent, DriverName, EnrolledNetns, Occupancy, PodCounters, PodTarget, RedirectDriver, Tally } from '../driver.ts';
import type { Backend, Found } from './backend.ts';
import { entryOf, podAddresses, sameShape, shapeOf, siteOf, stateOf, watchedOf, type Enrolled } from './enrolled.ts';
import { ProbeExemption } from './probe-exemption.ts';
import type { Records } from './records.ts';
import { isInterface, type Shape, type Stage } from './rules.ts';
import { inspect, nameOf, put, takeBack } from './settings.ts';
import { capturedConnections, endCaptured, tunnelListeners } from './sockets.ts';
import { countersFrom, talliesFrom } from './tallies.ts';
import { together } from './together.ts';
import { Translations } from './translations.ts';

export interface NetfilterParts {
  backend: Backend;
  node: Netns;
  records: Records;
  /** as found at the start */
  enrolled: Map<bigint, Enrolled>;
  /** what does not work here */
  reasons: readonly string[];
  log: Logger;
}

/** Reading every pod's counters takes a twentieth of the time at most: with legacy iptables that is a process for each. */
const COUNTING_SHARE = 20;
/** Pods whose counters are read at once. */
const AT_ONCE = 4;

export class NetfilterDriver implements RedirectDriver {
  readonly name: DriverName;
  readonly reasons: string[];
  readonly #backend: Backend;
  readonly #node: Netns;
  readonly #nodeCookie: bigint;
  readonly #records: Records;
  readonly #enrolled: Map<bigint, Enrolled>;
  readonly #probes: ProbeExemption;
  readonly #log: Logger;
  readonly #translations: Translations;
  /** as last read: reading them may take a process per netns */
  readonly #counted = new Map<bigint, Tally[]>();
  #counting: Promise<void> | undefined;
  #reading: Promise<ReadonlyMap<bigint, PodCounters>> | undefined;
  /** somebody wanted them since they were last read */
  #wanted = false;
  #countAfter = 0;
  #rechecking: Promise<void> | undefined;
  readonly #slots = new Slots(AT_ONCE);
  #closed = false;

  constructor({ backend, node, records, enrolled, reasons, log }: NetfilterParts) {
    this.name = backend.kind;
    this.reasons = [...reasons];
    this.#backend = backend;
    this.#node = node;
    this.#nodeCookie = node.cookie;
    this.#records = records;
    this.#enrolled = enrolled;
    this.#log = log;
    this.#probes = new ProbeExemption(backend, node.fd, log);
    this.#translations = new Translations(() => [...enrolled].map(([cookie, entry]) => watchedOf(cookie, entry)), log);
    for (const { record } of enrolled.values()) this.#probes.know(record.uid, record.addresses);
  }

  /** The node's part as it should be, and what was counted so far, for pods of an earlier run. */
  async start(): Promise<void> {
    await Promise.all([this.#probes.start(), this.#count()]);
  }

  async prepare(pod: PodTarget): Promise<EnrolledNetns> {
    if (pod.netnsCookie === this.#nodeCookie)
      throw new CulvertError('NETNS_TAKEN', `prepare pod ${pod.namespace}/${pod.name}: this is the node's own netns`);
    await this.#enrolled.get(pod.netnsCookie)?.leaving;
    const known = this.#enrolled.get(pod.netnsCookie);
    if (known === undefined) return this.#join(pod);
    if (known.record.uid !== pod.uid) {
      const { namespace, name, uid } = known.record;
      const whose = `its netns ${pod.netnsCookie} belongs to ${namespace}/${name}, uid ${uid}`;
      throw new CulvertError('NETNS_TAKEN', `prepare pod ${pod.namespace}/${pod.name}: ${whose}`);
    }
    return this.#turn(known, () => {
      if (this.#enrolled.get(pod.netnsCookie) === known) return this.#repair(known, pod);
      const message = `prepare pod ${pod.namespace}/${pod.name}: what was there before could not be prepared, and is taken off`;
      throw new CulvertError('NETNS_TAKEN', message, undefined, { retryable: true });
    });
  }

  reconcile(pod: PodTarget): Promise<EnrolledNetns> {
    return this.prepare(pod);
  }

  async activate(cookie: bigint): Promise<void> {
    const entry = this.#of(cookie, 'activate');
    await this.#turn(entry, async () => {
      const shape = this.#shapeNow(entry);
      const same = sameShape(shape, entry.record.shape);
      await this.#bring(entry, shape, 'active', same ? entry.stage : await this.#backend.read(siteOf(entry)));
    });
  }

  async drain(cookie: bigint): Promise<void> {
    const entry = this.#of(cookie, 'drain');
    await this.#turn(entry, async () => {
      if (entry.stage === 'active') await this.#bring(entry, entry.record.shape, 'draining', 'active');
    });
  }

  async remove(cookie: bigint, netnsFd: number | undefined, deadlineMs: number, successor = false): Promise<void> {
    const entry = this.#enrolled.get(cookie);
    if (entry === undefined) return;
    entry.leaving ??= this.#turn(entry, () => this.#leave(entry, netnsFd !== undefined, deadlineMs, successor)).finally(
      () => (entry.leaving = undefined),
    );
    return entry.leaving;
  }

  snapshot(): EnrolledNetns[] {
    return [...this.#enrolled.values()].map((entry) => stateOf(entry, this.name));
  }

  faults(pod: PodTarget, addresses: readonly string[]): string[] {
    const entry = this.#enrolled.get(pod.netnsCookie);
    if (entry === undefined) return [`there is no record of its netns ${pod.netnsCookie}`];
    const faults: string[] = [];
    if (entry.record.uid !== pod.uid) faults.push(`the record of its netns names uid ${entry.record.uid}`);
    const found = this.#backend.readSync(siteOf(entry));
    if (found.stage !== 'active') faults.push(`its rules are ${found.stage}, not active`);
    faults.push(...found.differences(entry.record.shape, 'active'));
    const view = inspect(entry.netns.fd);
    for (const op of view.missing) faults.push(`in its netns the ${nameOf(op)} is missing`);
    const present = new Set(view.addresses.map(({ address }) => address));
    for (const address of addresses) if (!present.has(address)) faults.push(`its netns does not have address ${address}`);
    if (!this.listeners(pod.netnsCookie).some(({ port }) => port === wire.PORT_OUTBOUND))
      faults.push('the tunnel has no listener on 15001');
    return faults;
  }

  warnings(cookie: bigint): string[] {
    const { virtualInterfaces = [] } = this.#enrolled.get(cookie)?.record ?? {};
    return virtualInterfaces
      .filter((name) => !isInterface(name))
      .map((name) => `virtual interface "${name}" is no name of an interface and is ignored`);
  }

  /** They depend on annotations alone, which whoever asks has read. */
  onWarnings(): { close(): void } {
    return { close: () => undefined };
  }

  /** Counters are read anew when somebody asked for all of them meanwhile. */
  refreshNode(): void {
    if (!this.#wanted || this.#counting !== undefined || performance.now() < this.#countAfter) return;
    this.#wanted = false;
    const started = performance.now();
    this.#counting = this.#count().finally(() => {
      this.#counting = undefined;
      this.#countAfter = performance.now() + COUNTING_SHARE * (performance.now() - started);
    });
  }

  /** What somebody took away from the rules of a pod or of the node is put back. */
  recheckPods(): Promise<void> {
    this.#rechecking ??= this.#recheck().finally(() => (this.#rechecking = undefined));
    return this.#rechecking;
  }

  /** Nothing is kept of listeners: whoever listens with the mark serves. @returns how many do */
  adoptListeners(cookie: bigint): number {
    return this.listeners(cookie).length;
  }

  /** With hundreds of pods that leave at once each waits for its turn. */
  hboneAccepted(cookie: bigint): Promise<number> {
    return this.#slots.run(async () => {
      const entry = this.#of(cookie, 'count connections of');
      return (await this.#backend.read(siteOf(entry))).counts(entry.record.shape).get('hbone') ?? 0;
    });
  }

  captured(netnsFd: number): number {
    return capturedConnections(Netns.adopt(netnsFd)); // not closed: the fd is the caller's
  }

  listeners(cookie: bigint): { port: number; alive: boolean }[] {
    const entry = this.#enrolled.get(cookie);
    return entry === undefined ? [] : tunnelListeners(entry.netns);
  }

  counters(cookie: bigint): PodCounters {
    return countersFrom(this.tallies(cookie));
  }

  countersOfAll(): Promise<ReadonlyMap<bigint, PodCounters>> {
    this.#reading ??= this.#count()
      .then(() => new Map([...this.#counted].map(([cookie, tallies]) => [cookie, countersFrom(tallies)])))
      .finally(() => (this.#reading = undefined));
    return this.#reading;
  }

  /** Read anew, some milliseconds; as last read where that cannot be. */
  tallies(cookie: bigint): Tally[] {
    const entry = this.#enrolled.get(cookie);
    if (entry === undefined) return [];
    try {
      return this.#talliesOf(cookie, entry, this.#backend.readSync(siteOf(entry)));
    } catch (error) {
      this.#log.warn({ cookie: String(cookie), error: describe(error) }, 'counters of a pod not read');
      return this.#counted.get(cookie) ?? [];
    }
  }

  /** As read after the last time that somebody asked. */
  readAll(): { tallies: Tally[]; maps: Occupancy[] } {
    this.#wanted = true;
    return { tallies: [...this.#counted.values()].flat(), maps: [] };
  }

  trustTunnel(): void {
    // the mark alone proves it: see `reasons`
  }

  distrustTunnel(): void {
    // as above
  }

  trustedTunnels(): bigint[] {
    return [];
  }

  /** New connections as conntrack of each netns tells them. */
  onEvent(listener: (event: DatapathEvent) => void): { close(): void } {
    return this.#translations.on(listener);
  }

  eventsLost(): number {
    return this.#translations.lost;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#translations.close();
    for (const { netns } of this.#enrolled.values()) netns.close();
    this.#enrolled.clear();
    this.#node.close();
  }

  async #join(pod: PodTarget): Promise<EnrolledNetns> {
    const { netnsCookie: cookie } = pod;
    const entry = entryOf(pod);
    const { netns, record } = entry;
    this.#enrolled.set(cookie, entry);
    return this.#turn(entry, async () => {
      try {
        this.#records.write(record);
        put(netns.fd, inspect(netns.fd).missing);
        const rules = async (): Promise<void> => this.#bring(entry, record.shape, 'prepared', await this.#backend.read(siteOf(entry)));
        await together(rules(), this.#probes.put(pod.uid, record.addresses));
        this.#translations.follow();
        return stateOf(entry, this.name);
      } catch (error) {
        await this.#leave(entry, true, 0, false).catch((why: unknown) => {
          this.#log.error({ cookie: String(cookie), error: describe(why) }, 'undo a netns that could not be prepared');
        });
        throw error instanceof CulvertError
          ? error
          : new CulvertError('SYSTEM', `prepare netns ${cookie} of pod ${pod.namespace}/${pod.name}`, error);
      }
    });
  }

  /** A netns that is there already: everything is checked, what is right is left as it is. */
  async #repair(entry: Enrolled, pod: PodTarget): Promise<EnrolledNetns> {
    const view = inspect(entry.netns.fd);
    entry.families = view.families;
    const { record } = entry;
    record.addresses = podAddresses(view);
    record.flags = pod.flags;
    record.virtualInterfaces = [...(pod.virtualInterfaces ?? [])];
    if (pod.netnsPath !== '') record.netnsPath = pod.netnsPath;
    await this.#probes.put(record.uid, record.addresses);
    put(entry.netns.fd, view.missing);
    const stage: Stage = entry.stage === 'none' ? 'prepared' : entry.stage;
    const prepared = shapeOf(pod.flags, record.virtualInterfaces, pod.flags.dns);
    await this.#correct(entry, stage === 'prepared' ? prepared : this.#shapeNow(entry), stage);
    return stateOf(entry, this.name);
  }

  async #correct(entry: Enrolled, shape: Shape, stage: Stage): Promise<void> {
    const found = await this.#backend.read(siteOf(entry));
    const wrong = found.differences(shape, stage);
    if (wrong.length > 0) {
      this.#log.warn({ cookie: entry.record.cookie, wrong }, 'rules of a pod were not as they should be, and are put back');
      await this.#bring(entry, shape, stage, found);
    } else {
      entry.stage = stage;
      this.#records.write(entry.record);
    }
  }

  async #bring(entry: Enrolled, shape: Shape, stage: Stage, from: Enrolled['stage'] | Found): Promise<void> {
    if (from === stage) return;
    await this.#backend.write(siteOf(entry), shape, stage, from);
    entry.stage = stage;
    entry.record.shape = { ...shape, virtualInterfaces: [...shape.virtualInterfaces] };
    this.#records.write(entry.record);
  }

  /**
   * Questions go to a tunnel that answers them: one that does not listen for them when the pod becomes active would leave it without
   * names. Once captured they stay so, whatever becomes of the listener. By hand the tunnel may come later.
   */
  #shapeNow({ record: { flags, virtualInterfaces, shape }, stage, netns }: Enrolled): Shape {
    const answered = (): boolean => tunnelListeners(netns).some(({ port }) => port === wire.PORT_DNS);
    const captured = stage !== 'prepared' && shape.dns;
    return shapeOf(flags, virtualInterfaces, flags.dns && (flags.markOnly || captured || answered()));
  }

  async #leave(entry: Enrolled, there: boolean, deadlineMs: number, successor: boolean): Promise<void> {
    const { record, netns } = entry;
    const cookie = BigInt(record.cookie);
    if (this.#enrolled.get(cookie) !== entry) return; // it could not be prepared, and was undone; its descriptor is closed
    if (there) {
      if (entry.stage === 'active') await this.#bring(entry, record.shape, 'draining', 'active');
      await endCaptured(netns, deadlineMs, successor);
      // the node's part may go first: nothing is captured any more
      await together(this.#backend.clear(siteOf(entry)), this.#probes.take(record.uid));
      if (!successor) takeBack(netns.fd);
    } else await this.#probes.take(record.uid);
    this.#records.remove(cookie);
    this.#enrolled.delete(cookie);
    this.#counted.delete(cookie);
    this.#translations.follow(); // before its descriptor goes
    netns.close();
  }

  async #count(): Promise<void> {
    await this.#each(async (cookie, entry) => {
      if (this.#enrolled.get(cookie) !== entry) return;
      const found = await this.#backend.read(siteOf(entry));
      if (this.#enrolled.get(cookie) === entry) this.#counted.set(cookie, this.#talliesOf(cookie, entry, found));
    }, 'counters of a pod not read');
  }

  async #recheck(): Promise<void> {
    await this.#each(async (cookie, entry) => {
      await this.#turn(entry, async () => {
        if (entry.stage === 'none' || entry.leaving !== undefined || this.#enrolled.get(cookie) !== entry) return;
        put(entry.netns.fd, inspect(entry.netns.fd).missing);
        await this.#correct(entry, entry.stage === 'active' ? this.#shapeNow(entry) : entry.record.shape, entry.stage);
      });
    }, 'rules of a pod not checked');
    if (!this.#closed) await this.#probes.restore();
  }

  /** Some at a time. Never rejects. */
  async #each(action: (cookie: bigint, entry: Enrolled) => Promise<void>, failed: string): Promise<void> {
    const slots = new Slots(AT_ONCE);
    const one = async (cookie: bigint, entry: Enrolled): Promise<void> => {
      try {
        if (!this.#closed) await action(cookie, entry);
      } catch (error) {
        this.#log.warn({ cookie: String(cookie), error: describe(error) }, failed);
      }
    };
    await Promise.all([...this.#enrolled].map(([cookie, entry]) => slots.run(() => one(cookie, entry))));
  }

  #talliesOf(cookie: bigint, entry: Enrolled, found: Found): Tally[] {
    const { shape } = entry.record;
    return talliesFrom(cookie, shape, found.counts(shape));
  }

  #turn<T>(entry: Enrolled, action: () => Promise<T>): Promise<T> {
    const done = entry.turn.then(action);
    entry.turn = done.catch(() => undefined);
    return done;
  }

  #of(cookie: bigint, verb: string): Enrolled {
    const entry = this.#enrolled.get(cookie);
    if (entry === undefined || entry.leaving !== undefined)
      throw new CulvertError('NETNS_UNKNOWN', `${verb} netns ${cookie}: it is not prepared`);
    return entry;
  }
}
