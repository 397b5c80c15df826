/** The ebpf driver: the contract's verbs over maps, links and settings. All state is the kernel's; memory holds watches and fds. */
import { CulvertError, describe } from '../../base/errors.ts';
import type { Logger } from '../../base/log.ts';
import { countersOf, podFlag, podState, REASON, totalOf, type Pod } from '../../maps/index.ts';
import { Netns } from '../../sys/netns.ts';
import type { DatapathEvent, EnrolledNetns, Occupancy, PodCounters, PodTarget, RedirectDriver, Tally } from '../driver.ts';
import { openEvents, type EventStream } from './events.ts';
import type { Installed } from './install.ts';
import { faultsOf } from './faults.ts';
import { joinNetns, type Datapath } from './join.ts';
import { capturedConnections, leaveNetns } from './leave.ts';
import { adoptListeners, listenersOf } from './listeners.ts';
import { Masquerading } from './masquerading.ts';
import type { Node } from './node.ts';
import { makeDir } from './pins.ts';
import { nothingWritten, readWritten, type Written } from './pod-entries.ts';
import { allEnrolled, enrolledNetns, flagBits, identityOf } from './pod-identity.ts';
import { attachPodLink } from './pod-link.ts';
import type { EbpfProbe } from './probe.ts';
import { podWarnings } from './pod-warnings.ts';
import { PodWatch } from './pod-watch.ts';
import type { Settings } from './settings.ts';
import { SparePrograms } from './spare-programs.ts';
import { sweep } from './sweep.ts';
import { demandTransparent, refuseOpaque } from './transparency.ts';
import { readAll, talliesOf } from './tallies.ts';

const RESTORED =
  "rules, routes or sysctls of the mesh were deleted in its network namespace since the agent started, and put back: take NET_ADMIN from the app's " +
  'containers, or have it leave rules with mark 0x111 and table 100 alone';

export interface EbpfDriverParts {
  installed: Installed;
  probe: Pick<EbpfProbe, 'nodeCookie' | 'reasons'>;
  /** only kubelet's connections are exempt */
  kubeletOnly: boolean;
  settings: Settings;
  node: Node;
  procRoot: string;
  log: Logger;
}

export class EbpfDriver implements RedirectDriver {
  readonly name = 'ebpf';
  readonly #reasons: string[];
  readonly #installed: Installed;
  readonly #path: Datapath;
  readonly #programs: SparePrograms;
  readonly #nodeCookie: bigint;
  readonly #log: Logger;
  readonly #events: EventStream;
  readonly #node: Node;
  readonly #procRoot: string;
  readonly #masquerading: Masquerading;
  readonly #warned = new Set<(cookie: bigint) => void>();
  /** warnings as they were when somebody was last told of them */
  readonly #told = new Map<bigint, string>();
  /** what the maps hold of netns that nobody watches yet, after a restart */
  readonly #unwatched: Map<bigint, Written>;
  readonly #watches = new Map<bigint, PodWatch>();
  /** removals under way: whoever comes meanwhile waits for them */
  readonly #leaving = new Map<bigint, Promise<void>>();
  #rechecking: Promise<void> | undefined;
  #closed = false;

  /** Everything given is closed with the driver. */
  constructor({ installed, probe, kubeletOnly, settings, node, procRoot, log }: EbpfDriverParts) {
    this.#reasons = probe.reasons;
    this.#installed = installed;
    this.#path = { pins: installed.pins, maps: installed.maps, log };
    this.#node = node;
    this.#procRoot = procRoot;
    this.#nodeCookie = probe.nodeCookie;
    this.#log = log;
    this.#unwatched = readWritten(installed.maps);
    const swept = sweep(this.#path, this.#unwatched);
    const { dead, unfinished, orphans } = swept;
    if (dead.length + unfinished.length + orphans.length > 0) {
      log.info(
        { dead: dead.map(String), unfinished: unfinished.map(String), orphans: orphans.map(String) },
        'removed what earlier runs left',
      );
    }
    this.#masquerading = new Masquerading({
      maps: installed.maps,
      node: node.netns,
      kubeletOnly,
      isIstioProbe: (address) => node.isIstioProbe(address),
      log,
    });
    this.#events = openEvents(installed.maps, settings, (cookie) => {
      this.#tell(cookie);
    });
    this.#programs = new SparePrograms(installed.template, log);
  }

  get reasons(): string[] {
    return [...this.#reasons, ...this.#node.faults];
  }

  async prepare(pod: PodTarget): Promise<EnrolledNetns> {
    const cookie = this.#cookieOf(pod);
    await this.#leaving.get(cookie);
    const known = this.#path.maps.pods.get(cookie);
    if (known === undefined) {
      this.#watches.set(cookie, joinNetns(this.#path, this.#programs, cookie, pod));
      this.#unwatched.delete(cookie);
    } else {
      this.#repair(cookie, known, pod);
    }
    // beside what the caller does next: the tunnel is told meanwhile
    void this.#examine(cookie);
    return this.#state(cookie);
  }

  /** As prepare, which also takes up a netns that is there and repairs it; a netns that the kernel does not know is prepared. */
  async reconcile(pod: PodTarget): Promise<EnrolledNetns> {
    return this.prepare(pod);
  }

  faults(pod: PodTarget, addresses: readonly string[]): string[] {
    const cookie = this.#cookieOf(pod);
    return faultsOf(this.#path, cookie, pod, this.#watches.get(cookie)?.written.own ?? this.#unwatched.get(cookie)?.own, addresses);
  }

  warnings(cookie: bigint, netnsFd: number): string[] {
    return this.#warnings(cookie, this.#watches.get(cookie)?.netns ?? Netns.adopt(netnsFd, String(cookie)));
  }

  onWarnings(listener: (cookie: bigint) => void): { close(): void } {
    this.#warned.add(listener);
    return { close: () => this.#warned.delete(listener) };
  }

  refreshNode(): void {
    this.#node.refresh();
  }

  /** Where pods do not answer this takes longer than the tick: one at a time. */
  recheckPods(): Promise<void> {
    this.#rechecking ??= this.#recheck().finally(() => (this.#rechecking = undefined));
    return this.#rechecking;
  }

  activate(cookie: bigint): void {
    const place = this.#watches.get(cookie);
    const joins = this.#path.maps.pods.get(cookie)?.state !== podState.POD_ACTIVE;
    if (place !== undefined && joins) demandTransparent(this.#path.maps, place);
    this.#setState(cookie, podState.POD_ACTIVE);
  }

  drain(cookie: bigint): void {
    this.#setState(cookie, podState.POD_DRAINING);
  }

  async remove(cookie: bigint, netnsFd: number | undefined, deadlineMs: number, successor = false): Promise<void> {
    const under = this.#leaving.get(cookie);
    if (under !== undefined) return under;
    const leaving = this.#leave(cookie, netnsFd, deadlineMs, successor).finally(() => this.#leaving.delete(cookie));
    this.#leaving.set(cookie, leaving);
    return leaving;
  }

  snapshot(): EnrolledNetns[] {
    return allEnrolled(this.#path.maps);
  }

  adoptListeners(cookie: bigint, pid: number): number {
    const watch = this.#watches.get(cookie);
    if (watch === undefined) throw new CulvertError('NETNS_UNKNOWN', `adopt listeners in netns ${cookie}: it is not prepared`);
    const adopted = adoptListeners(this.#path.maps, cookie, watch.netns, pid, this.#procRoot);
    if (adopted > 0) this.#tell(cookie);
    return adopted;
  }

  hboneAccepted(cookie: bigint): number {
    const count = (reason: number): bigint => this.#path.maps.counters.get({ cookie, reason }) ?? 0n;
    return Number(count(REASON.IN_REDIRECT_HBONE) + count(REASON.IN_PASS_HBONE));
  }

  captured(netnsFd: number): number {
    return capturedConnections(Netns.adopt(netnsFd)); // not closed: the fd is the caller's
  }

  listeners(cookie: bigint): { port: number; alive: boolean }[] {
    return listenersOf(this.#path.maps, cookie);
  }

  counters(cookie: bigint): PodCounters {
    return countersOf(this.#path.maps, cookie);
  }

  tallies(cookie: bigint): Tally[] {
    return [...talliesOf(this.#path.maps, cookie), ...this.#restoredTally(cookie)];
  }

  readAll(): { tallies: Tally[]; maps: Occupancy[] } {
    const { tallies, maps } = readAll(this.#path.maps, this.#installed.sizes);
    return { tallies: [...tallies, ...[...this.#watches.keys()].flatMap((cookie) => this.#restoredTally(cookie))], maps };
  }

  trustTunnel(cgroupId: bigint): void {
    this.#path.maps.tunnels.set(cgroupId, process.hrtime.bigint());
  }

  distrustTunnel(cgroupId: bigint): void {
    this.#path.maps.tunnels.delete(cgroupId);
  }

  trustedTunnels(): bigint[] {
    return [...this.#path.maps.tunnels.keys()];
  }

  onEvent(listener: (event: DatapathEvent) => void): { close(): void } {
    return this.#events.on(listener);
  }

  eventsLost(): number {
    return totalOf(this.#path.maps, REASON.MISC_EVENT_LOST);
  }

  /** Settings (rules, routes, sysctls) of this netns that had to be put back since the agent started. */
  restored(cookie: bigint): number {
    return this.#watches.get(cookie)?.restored ?? 0;
  }

  /** Entries each map has room for. */
  mapSizes(): Record<string, number> {
    return this.#installed.sizes;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#events.close();
    this.#masquerading.close();
    this.#node.close();
    for (const watch of this.#watches.values()) watch.close();
    this.#watches.clear();
    this.#programs.close();
    this.#installed.close();
  }

  async #leave(cookie: bigint, netnsFd: number | undefined, deadlineMs: number, successor: boolean): Promise<void> {
    const watch = this.#watches.get(cookie);
    const written = watch?.written ?? this.#unwatched.get(cookie) ?? nothingWritten();
    this.#watches.delete(cookie);
    // first of all: what is taken away from here on must not be put back
    watch?.close();
    this.#unwatched.set(cookie, written);
    await leaveNetns(this.#path, cookie, written, netnsFd, successor ? 'successor' : deadlineMs);
    this.#unwatched.delete(cookie);
    this.#masquerading.forget(cookie);
    this.#told.delete(cookie);
  }

  async #recheck(): Promise<void> {
    for (const cookie of [...this.#watches.keys()]) {
      this.#watches.get(cookie)?.follow(); // sysctls tell nobody when they change
      await this.#examine(cookie);
    }
  }

  /** How the node's connections arrive there, and whether the pod has warnings that nobody was told of. Never throws. */
  async #examine(cookie: bigint): Promise<void> {
    const watch = this.#watches.get(cookie);
    if (watch === undefined) return;
    await this.#masquerading.check(cookie, [...watch.written.byAddress]);
    this.#tell(cookie);
  }

  /** A tunnel's listener that could not answer is not left to new connections; then who must know is told what is not as it should be. */
  #tell(cookie: bigint): void {
    const watch = this.#watches.get(cookie);
    if (this.#closed || watch === undefined) return;
    try {
      const refused = this.#path.maps.pods.get(cookie)?.state === podState.POD_ACTIVE ? refuseOpaque(this.#path.maps, watch) : 0;
      if (refused > 0) this.#log.warn({ cookie: String(cookie), refused }, 'listener of a tunnel refused: it is not transparent');
      const text = this.#warnings(cookie, watch.netns).join('\n');
      if (text === (this.#told.get(cookie) ?? '')) return;
      this.#told.set(cookie, text);
      for (const listener of this.#warned) listener(cookie);
    } catch (error) {
      this.#log.warn({ cookie: String(cookie), error: describe(error) }, 'warnings of a pod not read');
    }
  }

  #warnings(cookie: bigint, netns: Netns): string[] {
    const written = this.#watches.get(cookie)?.written ?? this.#unwatched.get(cookie) ?? nothingWritten();
    return [
      ...this.#masquerading.warnings(cookie),
      ...podWarnings(this.#path.maps, cookie, netns, written),
      ...this.#restoredWarning(cookie),
    ];
  }

  #restoredTally(cookie: bigint): Tally[] {
    const count = this.restored(cookie);
    return count === 0 ? [] : [{ cookie, direction: 'other', verdict: 'other', reason: 'restored', count }];
  }

  #restoredWarning(cookie: bigint): string[] {
    return this.restored(cookie) === 0 ? [] : [RESTORED];
  }

  /** A netns that the kernel has already: everything is checked, what is live is left as it is. */
  #repair(cookie: bigint, known: Pod, pod: PodTarget): void {
    const { maps, pins } = this.#path;
    const identity = maps.identity.get(cookie);
    if (identity !== undefined && identity.uid !== pod.uid) {
      throw new CulvertError(
        'NETNS_TAKEN',
        `prepare pod ${pod.namespace}/${pod.name}: its netns ${cookie} belongs to ${identity.namespace}/${identity.name}, uid ${identity.uid}`,
      );
    }
    if (identity === undefined || (pod.netnsPath !== '' && identity.netns !== pod.netnsPath)) maps.identity.set(cookie, identityOf(pod));
    const watch = this.#watches.get(cookie) ?? this.#watch(cookie, pod.netnsFd);
    const restored = watch.sync();
    if (restored > 0) this.#log.warn({ cookie: String(cookie), restored }, 'put back what was missing in the netns of a pod');
    watch.restored += restored;
    makeDir(pins.pod(cookie));
    attachPodLink(pins, cookie, pod.netnsFd, this.#programs);
    const flags = flagBits(pod.flags) | (known.flags & podFlag.POD_NODE_SOURCE);
    if (known.flags !== flags) maps.pods.set(cookie, { ...known, flags });
  }

  #watch(cookie: bigint, netnsFd: number): PodWatch {
    const watch = new PodWatch(cookie, netnsFd, this.#unwatched.get(cookie) ?? nothingWritten(), this.#path.maps, this.#log);
    this.#unwatched.delete(cookie);
    this.#watches.set(cookie, watch);
    return watch;
  }

  #cookieOf(pod: PodTarget): bigint {
    if (pod.netnsCookie === this.#nodeCookie)
      throw new CulvertError('NETNS_TAKEN', `prepare pod ${pod.namespace}/${pod.name}: this is the node's own netns`);
    return pod.netnsCookie;
  }

  #state(cookie: bigint): EnrolledNetns {
    const { maps } = this.#path;
    const pod = maps.pods.get(cookie);
    if (pod === undefined) throw new CulvertError('NETNS_UNKNOWN', `read netns ${cookie}: it is not prepared`);
    return enrolledNetns(cookie, pod, maps.identity.get(cookie));
  }

  #setState(cookie: bigint, state: number): void {
    const { maps } = this.#path;
    const pod = maps.pods.get(cookie);
    if (pod === undefined || this.#leaving.has(cookie))
      throw new CulvertError('NETNS_UNKNOWN', `change state of netns ${cookie}: it is not prepared`);
    if (pod.state !== state) maps.pods.set(cookie, { ...pod, state });
  }
}
