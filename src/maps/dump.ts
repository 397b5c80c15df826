/** Every map as rows that people and JSON can read, cookies joined with the pods they belong to: `culvert maps`. */
import { CulvertError } from '../base/errors.ts';
import { native } from '../sys/native.ts';
import { ageMs } from './events.ts';
import { EVENT_CLASS, enums, maps as layout, podFlag, podState, wire, type KeyOf, type ValueOf } from './layout.ts';
import type { Maps } from './open.ts';
import { reasonOf } from './reasons.ts';
import type { TypedMap, TypedMapName } from './typed-map.ts';

/** Decoded key and value; 64-bit numbers are decimal text. */
export type Row = Record<string, string | number | boolean | string[] | null> & {
  /** "ns/name", null when nobody knows */
  pod: string | null;
  /** nothing needs this entry any more: its netns is not enrolled, its listener is gone, its time has passed */
  stale: boolean;
};
export interface MapDump {
  map: string;
  type: string;
  entries: number;
  maxEntries: number;
  rows: Row[];
}

type Describe<N extends TypedMapName> = (
  key: KeyOf<N>,
  value: ValueOf<N>,
) => {
  cookie?: bigint;
  fields: Record<string, string | number | string[]>;
  stale?: boolean;
};

const names = (table: Record<string, number>, prefix: string, mask: number): string[] =>
  Object.entries(table)
    .filter(([, bit]) => (mask & bit) !== 0)
    .map(([name]) => word(name, prefix));
const word = (name: string, prefix: string): string => name.slice(prefix.length).toLowerCase().replaceAll('_', '-');
const stateText = (state: number): string => {
  const found = Object.entries(podState).find(([, number]) => number === state);
  return found === undefined ? String(state) : word(found[0], 'POD_');
};

/** @param only C name of a map. @throws CulvertError USAGE for a name that is none */
export function dumpMaps(maps: Maps, only?: string): MapDump[] {
  const pods = new Set(maps.pods.keys());
  const who = new Map(maps.identity.entries().map(({ key, value }) => [key, `${value.namespace}/${value.name}`]));
  const live = new Set(maps.listeners.keys().map(({ cookie, port }) => `${cookie}:${port}`));

  const dump =
    <N extends TypedMapName>(map: TypedMap<N>, describe: Describe<N>, isEntry: (key: KeyOf<N>) => boolean = () => true): (() => MapDump) =>
    () => {
      const entries = map.entries().filter(({ key }) => isEntry(key));
      const rows = entries.map(({ key, value }): Row => {
        const { cookie, fields, stale = false } = describe(key, value);
        const gone = cookie !== undefined && !pods.has(cookie);
        return {
          ...(cookie === undefined ? {} : { cookie: String(cookie) }),
          ...fields,
          pod: cookie === undefined ? null : (who.get(cookie) ?? null),
          stale: gone || stale,
        };
      });
      return { map: map.name, type: layout[map.name].type, entries: rows.length, maxEntries: map.maxEntries, rows };
    };
  const connection =
    (limitMs: number): Describe<'inner' | 'exempt'> =>
    (key, time) => {
      const age = ageMs(time);
      return {
        cookie: key.cookie,
        fields: { src: key.src, sport: key.sport, dst: key.dst, dport: key.dport, ageMs: age },
        stale: age > limitMs,
      };
    };

  const dumps: Record<TypedMapName | 'events', () => MapDump> = {
    pods: dump(maps.pods, (cookie, pod) => ({ cookie, fields: { state: stateText(pod.state), flags: names(podFlag, 'POD_', pod.flags) } })),
    identity: dump(maps.identity, (cookie, id) => ({ cookie, fields: { ...id } })),
    own: dump(maps.own, ({ cookie, addr }) => ({ cookie, fields: { addr } })),
    listeners: dump(
      maps.listeners,
      ({ cookie, port, slot }, socket) => ({ cookie, fields: { port, slot, socket: String(socket) } }),
      ({ cookie }) => cookie !== 0n, // no netns: the agent's lock on its pins
    ),
    generation: dump(maps.generation, ({ cookie, port }, generation) => ({
      cookie,
      fields: { port, generation, slot: generation % wire.LISTENER_SLOTS },
      stale: !live.has(`${cookie}:${port}`),
    })),
    inner: dump(maps.inner, connection(enums.age.INNER_MS)),
    exempt: dump(maps.exempt, connection(enums.age.EXEMPT_MS)),
    pod_by_addr: dump(maps.podByAddr, (addr, cookie) => ({ cookie, fields: { addr } })),
    counters: dump(maps.counters, ({ cookie, reason }, count) => ({
      cookie,
      fields: { reason: reasonOf(reason).name, count: Number(count) },
    })),
    tunnels: dump(maps.tunnels, (cgroup, since) => ({ fields: { cgroup: String(cgroup), since: String(since) } })),
    kubelets: dump(maps.kubelets, (cgroup, since) => ({ fields: { cgroup: String(cgroup), since: String(since) } })),
    trials: dump(maps.trials, ({ cookie, addr }, { src, sport, seen }) => ({ cookie, fields: { addr, src, sport, seen } })),
    node_sources: dump(maps.nodeSources, ({ cookie, addr }) => ({ cookie, fields: { addr } })),
    settings: dump(maps.settings, (_, value) => ({
      fields: {
        events: names(EVENT_CLASS, 'EVENT_', value.event_mask || EVENT_CLASS.EVENT_REFUSED),
        istioProbes: names(enums.istio_probes, 'ISTIO_PROBES_', value.istio_probes),
      },
    })),
    owner: dump(maps.owner, (_, value) => ({ fields: { instance: value.instance.toString(16), abi: value.abi, version: value.version } })),
    events: () => ({
      map: 'events',
      type: layout.events.type,
      entries: 0,
      maxEntries: native.bpfInfo(maps.events.fd).maxEntries ?? 0,
      rows: [],
    }),
  };

  if (only === undefined) return Object.values(dumps).map((one) => one());
  if (!Object.hasOwn(dumps, only))
    throw new CulvertError('USAGE', `dump map ${only}: no such map; there are ${Object.keys(dumps).join(', ')}`);
  return [dumps[only as keyof typeof dumps]()];
}
