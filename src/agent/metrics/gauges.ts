/** What is read when Prometheus asks: how pods, tunnels, source, installation and maps are at that moment. */
import { Counter, Gauge, type Registry } from '../../base/metrics.ts';
import { summary, type PodSummary } from '../../enrol/registry.ts';
import type { Installation } from '../../install/installation.ts';
import type { RedirectDriver, Tally } from '../../redirect/driver.ts';
import type { Known } from '../answers.ts';
import { Totals } from './totals.ts';

export interface Observed extends Pick<Known, 'reconciler' | 'zds' | 'source'> {
  driver: Pick<RedirectDriver, 'tallies' | 'readAll'>;
  installation: Pick<Installation, 'installs' | 'ready'> | undefined;
  /** one time series per pod and reason */
  perPod: boolean;
}

const POD_STATES: PodSummary[] = ['enrolled', 'pending', 'not-enrolled'];
const EVENT_LOST = 'event-lost';

export class Gauges {
  readonly #registry: Registry;
  readonly #o: Observed;
  readonly #totals: Totals;
  readonly #connected: Gauge;
  readonly #pods: Gauge<'state'>;
  readonly #synced: Gauge;
  readonly #connections: Counter<'direction' | 'verdict' | 'reason'>;
  readonly #notices: Counter<'reason'>;
  readonly #lost: Counter;
  readonly #entries: Gauge<'map'>;
  readonly #room: Gauge<'map'>;
  readonly #perPod: Counter<'namespace' | 'pod' | 'direction' | 'verdict' | 'reason'> | undefined;
  readonly #installs: Counter<'result'> | undefined;
  readonly #installReady: Gauge | undefined;

  constructor(registry: Registry, observed: Observed) {
    this.#registry = registry;
    this.#o = observed;
    this.#totals = new Totals(observed.driver.readAll().tallies);
    const registers = [registry];
    this.#connected = new Gauge({ name: 'ztunnel_connected', help: 'Tunnels connected to ZDS.', registers });
    this.#pods = new Gauge({ name: 'culvert_pods', help: "This node's pods, by state.", labelNames: ['state'], registers });
    this.#synced = new Gauge({ name: 'culvert_source_synced', help: '1 once the source has said which pods there are.', registers });
    this.#connections = new Counter({
      name: 'culvert_connections_total',
      help: "Connections (and DNS queries) of enrolled pods by the datapath's decision and its reason, since the agent started.",
      labelNames: ['direction', 'verdict', 'reason'],
      registers,
    });
    this.#notices = new Counter({
      name: 'culvert_datapath_notices_total',
      help: 'What the datapath met that is no decision about a connection, by reason.',
      labelNames: ['reason'],
      registers,
    });
    this.#lost = new Counter({
      name: 'culvert_datapath_events_lost_total',
      help: 'Events that the ring buffer had no room for; connections are counted all the same.',
      registers,
    });
    this.#entries = new Gauge({ name: 'culvert_map_entries', help: 'Entries of a map.', labelNames: ['map'], registers });
    this.#room = new Gauge({ name: 'culvert_map_max_entries', help: 'Entries that a map has room for.', labelNames: ['map'], registers });
    if (observed.perPod)
      this.#perPod = new Counter({
        name: 'culvert_pod_connections_total',
        help: 'As culvert_connections_total, of each pod since it was enrolled.',
        labelNames: ['namespace', 'pod', 'direction', 'verdict', 'reason'],
        registers,
      });
    if (observed.installation === undefined) return;
    this.#installs = new Counter({
      name: 'istio_cni_installs_total',
      help: 'Installations of the CNI plugin, by result.',
      labelNames: ['result'],
      registers,
    });
    this.#installReady = new Gauge({ name: 'istio_cni_install_ready', help: '1 while plugin and entry are in place.', registers });
  }

  /** Prometheus' text format. Each map is read once. */
  async scrape(): Promise<string> {
    const { reconciler, zds, source } = this.#o;
    this.#connected.set(zds.connections().length);
    const states = reconciler.registry.all().filter(({ record }) => record !== undefined).map(summary); // prettier-ignore
    for (const state of POD_STATES) this.#pods.set({ state }, states.filter((each) => each === state).length);
    this.#synced.set(Number(source.synced()));
    this.#datapath();
    this.#install();
    return this.#registry.metrics();
  }

  /** Before the counters of a netns are deleted. */
  leaving(cookie: bigint): void {
    this.#totals.readLast(this.#o.driver.tallies(cookie));
  }

  left(cookie: bigint): void {
    this.#totals.forget(cookie);
  }

  #datapath(): void {
    const { tallies, maps } = this.#o.driver.readAll();
    this.#totals.read(tallies);
    this.#connections.reset();
    this.#notices.reset();
    this.#lost.reset();
    for (const { direction, verdict, reason, count } of this.#totals.all()) {
      if (verdict !== 'other') this.#connections.inc({ direction, verdict, reason }, count);
      else if (reason === EVENT_LOST) this.#lost.inc(count);
      else this.#notices.inc({ reason }, count);
    }
    this.#pod(tallies);
    for (const { map, entries, maxEntries } of maps) {
      this.#entries.set({ map }, entries);
      this.#room.set({ map }, maxEntries);
    }
  }

  #pod(tallies: Tally[]): void {
    if (this.#perPod === undefined) return;
    this.#perPod.reset();
    const entries = this.#o.reconciler.registry.all();
    const pods = new Map(entries.flatMap(({ pod: { subject } }) => (subject.cookie === undefined ? [] : [[subject.cookie, subject]])));
    for (const { cookie, direction, verdict, reason, count } of tallies) {
      const pod = pods.get(cookie);
      if (pod === undefined || verdict === 'other') continue;
      this.#perPod.inc({ namespace: pod.namespace, pod: pod.name, direction, verdict, reason }, count);
    }
  }

  #install(): void {
    const { installation } = this.#o;
    if (installation === undefined) return;
    this.#installs?.reset();
    for (const [result, count] of Object.entries(installation.installs)) this.#installs?.inc({ result }, count);
    this.#installReady?.set(Number(installation.ready));
  }
}
