/** A redirect driver that keeps in memory what the kernel would keep, and every call in order. Survives its user, as pins do. */
import { CulvertError } from '../../src/base/errors.ts';
import type {
  DatapathEvent,
  DriverName,
  EnrolledNetns,
  Occupancy,
  PodCounters,
  PodTarget,
  RedirectDriver,
  Tally,
} from '../../src/redirect/driver.ts';

export class FakeDriver implements RedirectDriver {
  readonly name: DriverName;
  readonly reasons: string[] = [];
  /** the kernel: by cookie */
  readonly kernel = new Map<bigint, EnrolledNetns>();
  readonly calls: string[] = [];
  readonly trusted = new Set<bigint>();
  readonly listening = new Map<bigint, number[]>();
  readonly hbone = new Map<bigint, number>();
  /** "verb" -> error thrown the next time(s) */
  readonly failures = new Map<string, CulvertError[]>();
  readonly #listeners = new Set<(event: DatapathEvent) => void>();
  /** what adoptListeners finds in the tunnel's process */
  adoptable = 0;

  constructor(name: DriverName = 'ebpf') {
    this.name = name;
  }

  async prepare(pod: PodTarget): Promise<EnrolledNetns> {
    this.#call('prepare', pod.name);
    await Promise.resolve();
    return this.#put(pod, 'prepared');
  }
  activate(cookie: bigint): void {
    this.#call('activate', this.#get(cookie).name);
    this.#get(cookie).state = 'active';
  }
  drain(cookie: bigint): void {
    this.#call('drain', this.kernel.get(cookie)?.name ?? String(cookie));
    const entry = this.kernel.get(cookie);
    if (entry !== undefined) entry.state = 'draining';
  }
  async remove(cookie: bigint, netnsFd: number | undefined, deadlineMs: number, successor = false): Promise<void> {
    this.#call(
      'remove',
      `${this.kernel.get(cookie)?.name ?? String(cookie)}${netnsFd === undefined ? ' (netns gone)' : ''}${successor ? ' for a successor' : deadlineMs === 0 ? ' at once' : ''}`,
    );
    await Promise.resolve();
    this.kernel.delete(cookie);
    this.listening.delete(cookie);
  }
  snapshot(): EnrolledNetns[] {
    return [...this.kernel.values()].map((entry) => ({ ...entry }));
  }
  async reconcile(pod: PodTarget): Promise<EnrolledNetns> {
    this.#call('reconcile', pod.name);
    await Promise.resolve();
    const known = this.kernel.get(pod.netnsCookie);
    return known === undefined ? this.#put(pod, 'prepared') : { ...known };
  }
  /** what is wrong, by cookie */
  readonly wrong = new Map<bigint, string[]>();
  faults(pod: PodTarget, addresses: readonly string[]): string[] {
    this.#call('faults', `${pod.name} ${addresses.join()}`);
    return this.wrong.get(pod.netnsCookie) ?? [];
  }
  adoptListeners(cookie: bigint, pid: number): number {
    this.#call('adoptListeners', `${this.#get(cookie).name} ${pid}`);
    if (this.adoptable > 0) this.listening.set(cookie, [15001]);
    return this.adoptable;
  }
  hboneAccepted(cookie: bigint): number {
    return this.hbone.get(cookie) ?? 0;
  }
  /** open connections that leaving waits for */
  open = 0;
  /** how often */
  asked = 0;
  captured(): number {
    this.asked++;
    return this.open;
  }
  listeners(cookie: bigint): { port: number; alive: boolean }[] {
    return (this.listening.get(cookie) ?? []).map((port) => ({ port, alive: true }));
  }
  counters(): PodCounters {
    return { outboundRedirected: 1, inboundRedirected: 2, outboundPassed: {}, inboundPassed: {}, dropped: {} };
  }
  /** what the counters say */
  counted: Tally[] = [];
  tallies(cookie: bigint): Tally[] {
    return this.counted.filter((tally) => tally.cookie === cookie);
  }
  readAll(): { tallies: Tally[]; maps: Occupancy[] } {
    return { tallies: this.counted, maps: [{ map: 'pods', entries: this.kernel.size, maxEntries: 564 }] };
  }
  trustTunnel(cgroupId: bigint): void {
    this.calls.push(`trust ${cgroupId}`);
    this.trusted.add(cgroupId);
  }
  distrustTunnel(cgroupId: bigint): void {
    this.calls.push(`distrust ${cgroupId}`);
    this.trusted.delete(cgroupId);
  }
  trustedTunnels(): bigint[] {
    return [...this.trusted];
  }
  onEvent(listener: (event: DatapathEvent) => void): { close(): void } {
    this.#listeners.add(listener);
    return { close: () => this.#listeners.delete(listener) };
  }
  emit(event: DatapathEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
  /** what cannot be served, by cookie; `warn` says that it changed */
  readonly warned = new Map<bigint, string[]>();
  readonly #warningListeners = new Set<(cookie: bigint) => void>();
  warnings(cookie: bigint): string[] {
    return this.warned.get(cookie) ?? [];
  }
  onWarnings(listener: (cookie: bigint) => void): { close(): void } {
    this.#warningListeners.add(listener);
    return { close: () => this.#warningListeners.delete(listener) };
  }
  warn(cookie: bigint, ...warnings: string[]): void {
    this.warned.set(cookie, warnings);
    for (const listener of this.#warningListeners) listener(cookie);
  }
  refreshNode(): void {
    this.calls.push('refreshNode');
  }
  async recheckPods(): Promise<void> {
    await Promise.resolve();
    this.calls.push('recheckPods');
  }
  eventsLost(): number {
    return 0;
  }
  close(): void {
    this.calls.push('close');
  }

  #put(pod: PodTarget, state: EnrolledNetns['state']): EnrolledNetns {
    const cookie = pod.netnsCookie;
    const { uid, namespace, name, netnsPath, flags } = pod;
    const entry = { cookie, uid, namespace, name, netnsPath, state, flags };
    this.kernel.set(cookie, entry);
    return { ...entry };
  }
  #get(cookie: bigint): EnrolledNetns {
    const entry = this.kernel.get(cookie);
    if (entry === undefined) throw new CulvertError('NETNS_GONE', `fake driver: netns ${cookie} is not prepared`);
    return entry;
  }
  #call(verb: string, what: string): void {
    this.calls.push(`${verb} ${what}`);
    const failure = this.failures.get(verb)?.shift();
    if (failure !== undefined) throw failure;
  }
}
