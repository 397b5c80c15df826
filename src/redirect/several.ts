/**
 * Several drivers as one: the node's, and others that single pods ask for, or that served pods before the node's was another. Which
 * one has a netns is the kernel's to say (each driver's snapshot); a pod that is to have another one is moved, in an order in which it is
 * never uncaptured. While both serve it a connection still meets one redirect only: the marks are the same, and what the one has
 * marked or rewritten the other lets pass. Drivers other than the node's are opened when the first pod needs them.
 */
import { CulvertError, describe } from '../base/errors.ts';
import type { Logger } from '../base/log.ts';
import type {
  DatapathEvent,
  DatapathState,
  DriverName,
  EnrolledNetns,
  Occupancy,
  PodCounters,
  PodTarget,
  RedirectDriver,
  Tally,
} from './driver.ts';
import type { IstioRules } from './istio-cni/index.ts';
import { Endings } from './endings.ts';
import { Holders } from './holders.ts';
import { bringListeners } from './bring-listeners.ts';
import { Openings } from './openings.ts';
import { inKernel, type NetnsAccess } from './netns-access.ts';
import { Subscriptions } from './subscriptions.ts';

export interface SeveralOptions {
  /** the node's: serves every pod that does not ask for another */
  chosen: RedirectDriver;
  /** why the node's is not a better one */
  reasons: readonly string[];
  forced: boolean;
  /** others of this instance that still serve pods */
  held: readonly RedirectDriver[];
  /** @throws KERNEL_UNSUPPORTED when it cannot run here */
  open: (name: DriverName) => Promise<RedirectDriver>;
  /** closes one that serves nobody any more, and takes everything of it off the node */
  retire: (driver: RedirectDriver) => Promise<void>;
  /** pids of the tunnels that serve pods now: a driver that comes later takes their listeners */
  tunnels: () => readonly number[];
  log: Logger;
  /** what istio-cni left in pods that we take over */
  istio: Pick<IstioRules, keyof IstioRules>;
  /** what is done in a netns itself; default: the kernel */
  netns?: NetnsAccess;
  /** between the last new connection that the old driver may take and its end; ms, default 200 */
  settleMs?: number;
  /** how long connections that the old driver translates may go on; ms, default 60000 */
  moveDeadlineMs?: number;
}

const STRENGTH: Record<DatapathState, number> = { none: 0, prepared: 1, draining: 2, active: 3 };

export class SeveralDrivers implements RedirectDriver {
  readonly #o: SeveralOptions;
  readonly #log: Logger;
  readonly #netns: NetnsAccess;
  /** every driver that is open, the node's first */
  readonly #open = new Map<DriverName, RedirectDriver>();
  readonly #openings: Openings;
  readonly #holders = new Holders();
  /** what a pod asked for and does not get */
  readonly #denied = new Map<bigint, DriverName>();
  readonly #endings = new Endings();
  /** how many pods each is being made ready for */
  readonly #taking = new Map<RedirectDriver, number>();
  /** on their way off the node; they can come back when that is done */
  readonly #retiring = new Map<DriverName, Promise<void>>();
  readonly #idle = new Set<DriverName>();
  readonly #events = new Subscriptions<DatapathEvent>((driver, listener) => driver.onEvent(listener));
  readonly #warned = new Subscriptions<bigint>((driver, listener) => driver.onWarnings(listener));
  #closed = false;

  constructor(options: SeveralOptions) {
    this.#o = options;
    this.#log = options.log;
    this.#netns = options.netns ?? inKernel;
    this.#openings = new Openings(options.open, (driver) => this.#come(driver), options.log);
    for (const driver of [options.chosen, ...options.held]) this.#add(driver);
    // the node's last: it is the owner of what several have
    for (const driver of [...options.held, options.chosen]) for (const { cookie } of driver.snapshot()) this.#holders.add(cookie, driver);
    options.istio.onNodeCleared(() => void this.recheckPods()); // others' masquerading may show, which a probe address hid
  }

  get name(): DriverName {
    return this.#o.chosen.name;
  }

  get forced(): boolean {
    return this.#o.forced;
  }

  get reasons(): string[] {
    const refused = [...this.#openings.refusals()].map(([name, why]) => `pods that ask for ${name} do not get it: ${why}`);
    const others = [...this.#open.values()].filter((driver) => driver !== this.#o.chosen);
    return [
      ...this.#o.reasons,
      ...this.#o.chosen.reasons,
      ...refused,
      ...others.flatMap(({ name, reasons }) => reasons.map((reason) => `${name}: ${reason}`)),
    ];
  }

  overdue(cookie: bigint): boolean {
    const denied = this.#denied.get(cookie);
    return denied !== undefined && this.#openings.refusal(denied) === undefined;
  }

  /** Which one serves this netns; undefined: none. */
  servedBy(cookie: bigint): DriverName | undefined {
    return this.#holders.owner(cookie)?.name;
  }

  async prepare(pod: PodTarget): Promise<EnrolledNetns> {
    return this.#take(pod, (driver) => driver.prepare(pod));
  }

  async reconcile(pod: PodTarget): Promise<EnrolledNetns> {
    return this.#take(pod, (driver) => driver.reconcile(pod));
  }

  async activate(cookie: bigint): Promise<void> {
    await this.#ownerOf(cookie, 'activate').activate(cookie);
    await this.#o.istio.release(cookie);
  }

  async drain(cookie: bigint): Promise<void> {
    for (const driver of this.#holders.of(cookie)) if (!this.#endings.has(driver, cookie)) await driver.drain(cookie);
    await this.#o.istio.release(cookie); // a pod that is to be out is nobody's
  }

  async remove(cookie: bigint, netnsFd: number | undefined, deadlineMs: number, successor = false): Promise<void> {
    this.#denied.delete(cookie);
    const heir = successor || this.#o.istio.capture(cookie);
    for (const driver of [...this.#holders.of(cookie)]) {
      void this.#endings.callBack(driver, cookie);
      await driver.remove(cookie, netnsFd, deadlineMs, heir);
      this.#holders.drop(cookie, driver);
    }
    this.#o.istio.forget(cookie);
    if (netnsFd !== undefined && !heir) this.#netns.forgetOpenStreams(netnsFd);
  }

  snapshot(): EnrolledNetns[] {
    const found = new Map<bigint, EnrolledNetns>();
    for (const driver of this.#open.values())
      for (const entry of driver.snapshot()) {
        const other = found.get(entry.cookie);
        if (other === undefined || STRENGTH[entry.state] > STRENGTH[other.state])
          found.set(entry.cookie, { ...entry, driver: driver.name });
      }
    return [...found.values()];
  }

  faults(pod: PodTarget, addresses: readonly string[]): string[] {
    const owner = this.#holders.owner(pod.netnsCookie) ?? this.#o.chosen;
    return owner.faults(pod, addresses);
  }

  warnings(cookie: bigint, netnsFd: number): string[] {
    const denied = this.#denied.get(cookie);
    const why = denied === undefined ? undefined : this.#openings.refusal(denied); // none: it is about to be moved there
    const served = this.#holders.owner(cookie) ?? this.#o.chosen;
    return [
      ...(why === undefined
        ? []
        : [`it asks for redirect driver ${denied}, which cannot run on this node (${why}): ${served.name} serves it`]),
      ...served.warnings(cookie, netnsFd),
      ...this.#o.istio.warnings(cookie),
    ];
  }

  onWarnings(listener: (cookie: bigint) => void): { close(): void } {
    const drivers = this.#warned.on(listener);
    const istio = this.#o.istio.onWarnings(listener);
    return {
      close: () => {
        drivers.close();
        istio.close();
      },
    };
  }

  leftovers = (): string[] => this.#o.istio.nodeWarnings();

  /** Also lets go of drivers that nobody needs any more. */
  refreshNode(): void {
    for (const driver of this.#open.values()) driver.refreshNode();
    for (const driver of [...this.#open.values()]) if (driver !== this.#o.chosen) this.#retireIdle(driver);
  }

  /** Also tries again what could not be opened for a pod that asks for it. */
  async recheckPods(): Promise<void> {
    await this.#openings.retry(new Set(this.#denied.values()));
    for (const cookie of this.#denied.keys()) this.#warned.tell(cookie); // why may be another by now
    for (const driver of [...this.#open.values()]) await driver.recheckPods();
    await this.#o.istio.recheck();
  }

  adoptListeners(cookie: bigint, pid: number): number {
    return this.#ownerOf(cookie, 'adopt listeners in').adoptListeners(cookie, pid);
  }

  /** Of one that only ends there nobody hears anything new. */
  async hboneAccepted(cookie: bigint): Promise<number> {
    const counting = this.#holders.of(cookie).filter((driver) => !this.#endings.has(driver, cookie));
    return sum(await Promise.all(counting.map(async (driver) => driver.hboneAccepted(cookie))));
  }

  captured(netnsFd: number): number {
    return Math.max(...[...this.#open.values()].map((driver) => driver.captured(netnsFd)));
  }

  listeners(cookie: bigint): { port: number; alive: boolean }[] {
    return this.#holders.owner(cookie)?.listeners(cookie) ?? [];
  }

  counters(cookie: bigint): PodCounters {
    return (this.#holders.owner(cookie) ?? this.#o.chosen).counters(cookie);
  }

  async countersOfAll(): Promise<ReadonlyMap<bigint, PodCounters>> {
    const all = await Promise.all([...this.#open.values()].map(async (driver) => ({ driver, of: await driver.countersOfAll?.() })));
    return new Map(all.flatMap(({ driver, of }) => [...(of ?? [])].filter(([cookie]) => this.#holders.owner(cookie) === driver)));
  }

  tallies(cookie: bigint): Tally[] {
    return this.#holders.of(cookie).flatMap((driver) => driver.tallies(cookie));
  }

  readAll(): { tallies: Tally[]; maps: Occupancy[] } {
    const all = [...this.#open.values()].map((driver) => driver.readAll());
    return { tallies: all.flatMap(({ tallies }) => tallies), maps: all.flatMap(({ maps }) => maps) };
  }

  trustTunnel(cgroupId: bigint): void {
    for (const driver of this.#open.values()) driver.trustTunnel(cgroupId);
  }

  distrustTunnel(cgroupId: bigint): void {
    for (const driver of this.#open.values()) driver.distrustTunnel(cgroupId);
  }

  trustedTunnels(): bigint[] {
    return [...new Set([...this.#open.values()].flatMap((driver) => driver.trustedTunnels()))];
  }

  onEvent(listener: (event: DatapathEvent) => void): { close(): void } {
    return this.#events.on(listener);
  }

  eventsLost(): number {
    return sum([...this.#open.values()].map((driver) => driver.eventsLost()));
  }

  close(): void {
    this.#closed = true;
    this.#openings.close();
    this.#endings.close();
    void this.#o.istio.close();
    for (const driver of this.#open.values()) driver.close();
  }

  /** When nothing ends in the background any more. */
  async settled(): Promise<void> {
    await this.#endings.settled();
  }

  /** By the driver that is to have it, whoever had it before. */
  async #take(pod: PodTarget, verb: (driver: RedirectDriver) => Promise<EnrolledNetns>): Promise<EnrolledNetns> {
    const wanted = await this.#for(pod);
    const cookie = pod.netnsCookie;
    this.#taking.set(wanted, (this.#taking.get(wanted) ?? 0) + 1);
    try {
      await this.#endings.callBack(wanted, cookie); // it comes back
      const others = this.#holders.of(cookie).filter((driver) => driver !== wanted);
      const foreign = this.#o.istio.meet(pod);
      const entry = await verb(wanted);
      if (others.length === 0) this.#holders.add(cookie, wanted); // what fails from here on finds it when it is undone
      if (others.length > 0) await this.#move(pod, others, wanted);
      // read anew only where it may have changed meanwhile: reading is of all pods
      const state = others.length === 0 ? entry.state : (stateIn(wanted, cookie) ?? entry.state);
      if (state === 'active') await this.#o.istio.release(cookie);
      return { ...entry, state, driver: wanted.name, ...(foreign && { foreign }) };
    } catch (error) {
      if (this.#holders.owner(cookie) === undefined) this.#o.istio.forget(cookie);
      throw error;
    } finally {
      this.#taking.set(wanted, (this.#taking.get(wanted) ?? 1) - 1);
    }
  }

  /** The new one serves before the old one stops. @throws ENROL_FAILED; the old one then goes on as before */
  async #move(pod: PodTarget, others: RedirectDriver[], to: RedirectDriver): Promise<void> {
    const cookie = pod.netnsCookie;
    const name = `${pod.namespace}/${pod.name}`;
    if (others.some((driver) => stateIn(driver, cookie) === 'active')) {
      for (const driver of this.#open.values()) driver.refreshNode(); // probes that the one's host rule marks, the other must know
      try {
        bringListeners(to, cookie, this.#o.tunnels(), name);
        await to.activate(cookie);
      } catch (error) {
        await to.remove(cookie, pod.netnsFd, 0, true);
        for (const driver of others) await driver.reconcile(pod); // what both need is theirs alone again
        throw error;
      }
    }
    this.#holders.add(cookie, to);
    for (const driver of others) {
      await driver.drain(cookie);
      this.#end(pod, driver, to);
    }
    this.#log.info({ pod: name, from: others.map((driver) => driver.name), to: to.name }, 'pod moved to another redirect driver');
  }

  /** In the background: what the old one translates goes on until it ends by itself. */
  #end(pod: PodTarget, driver: RedirectDriver, heir: RedirectDriver): void {
    const { netnsCookie: cookie, namespace, name } = pod;
    if (this.#endings.has(driver, cookie)) return;
    const { settleMs = 200, moveDeadlineMs = 60_000 } = this.#o;
    const netns = this.#netns.keep(pod.netnsFd);
    const end = async (): Promise<void> => {
      try {
        await driver.remove(cookie, netns.fd, moveDeadlineMs, true);
        this.#holders.drop(cookie, driver);
        // puts back what both need, should the old one have taken it
        if (this.#holders.owner(cookie) === heir) await heir.reconcile({ ...pod, netnsFd: netns.fd });
      } catch (error) {
        // a later reconciliation finds it again
        const fields = { pod: `${namespace}/${name}`, driver: driver.name, error: describe(error) };
        if (!this.#closed) this.#log.warn(fields, 'driver that a pod left did not end there');
      }
    };
    this.#endings.start(driver, cookie, settleMs, end, () => netns.close());
  }

  /** What the pod asks for, if that can run here; the node's otherwise. */
  async #for(pod: PodTarget): Promise<RedirectDriver> {
    const asked = pod.driver ?? this.#o.chosen.name;
    const driver = await this.#opened(asked);
    const before = this.#denied.delete(pod.netnsCookie);
    if (driver === undefined) this.#denied.set(pod.netnsCookie, asked);
    if (before || driver === undefined) this.#warned.tell(pod.netnsCookie);
    return driver ?? this.#o.chosen;
  }

  async #opened(name: DriverName): Promise<RedirectDriver | undefined> {
    await this.#retiring.get(name); // it would take off what the new one puts
    return this.#open.get(name) ?? this.#openings.open(name);
  }

  #come(driver: RedirectDriver): void {
    for (const id of this.trustedTunnels()) driver.trustTunnel(id);
    this.#add(driver);
    this.#log.info({ driver: driver.name }, 'another redirect driver opened, for pods that ask for it');
  }

  #add(driver: RedirectDriver): void {
    this.#open.set(driver.name, driver);
    this.#events.add(driver);
    this.#warned.add(driver);
  }

  /** One tick of grace: a pod that restarts does not take a driver down and up. */
  #retireIdle(driver: RedirectDriver): void {
    const { name } = driver;
    if (this.#holders.has(driver) || (this.#taking.get(driver) ?? 0) > 0) return void this.#idle.delete(name);
    if (!this.#idle.has(name)) return void this.#idle.add(name);
    this.#idle.delete(name);
    this.#open.delete(name);
    this.#events.drop(driver);
    this.#warned.drop(driver);
    this.#taking.delete(driver);
    const retiring = this.#o
      .retire(driver)
      .then(
        () => this.#log.info({ driver: name }, 'redirect driver that serves no pod taken off the node'),
        (error: unknown) =>
          this.#log.warn({ driver: name, error: describe(error) }, 'redirect driver that serves no pod not taken off the node'),
      )
      .finally(() => this.#retiring.delete(name));
    this.#retiring.set(name, retiring);
  }

  #ownerOf(cookie: bigint, verb: string): RedirectDriver {
    const owner = this.#holders.owner(cookie);
    if (owner === undefined) throw new CulvertError('NETNS_UNKNOWN', `${verb} netns ${cookie}: it is not prepared`);
    return owner;
  }
}

const stateIn = (driver: RedirectDriver, cookie: bigint): DatapathState | undefined =>
  driver.snapshot().find((entry) => entry.cookie === cookie)?.state;
const sum = (numbers: number[]): number => numbers.reduce((total, each) => total + each, 0);
