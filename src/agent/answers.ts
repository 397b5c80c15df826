/** `status` and `pods`: what the agent knows, in the shapes of api.ts. */
import { release } from 'node:os';
import { version } from '../base/version.ts';
import { reason, summary, type Entry, type PodSummary } from '../enrol/registry.ts';
import type { Reconciler } from '../enrol/reconciler.ts';
import type { Installation, InstallationState } from '../install/installation.ts';
import type { PodCounters, RedirectDriver } from '../redirect/driver.ts';
import type { Source } from '../sources/source.ts';
import type { ZdsServer } from '../zds/server.ts';
import type { AgentStatus, CniStatusResponse, PodStatus } from './api.ts';
import type { AgentConfig } from './config.ts';
import type { DatapathWarnings } from './datapath-warnings.ts';
import type { Readiness } from './readiness.ts';

export const NO_COUNTERS: PodCounters = { outboundRedirected: 0, inboundRedirected: 0, outboundPassed: {}, inboundPassed: {}, dropped: {} };

export interface Known {
  config: Pick<AgentConfig, 'node' | 'tunnel'>;
  driver: RedirectDriver;
  reconciler: Reconciler;
  zds: Pick<ZdsServer, 'connections'>;
  source: Pick<Source, 'kind' | 'synced'>;
  readiness: Pick<Readiness, 'reasons'>;
  datapathWarnings: Pick<DatapathWarnings, 'of'>;
  /** undefined: somebody else installs the plugin */
  installation: Pick<Installation, 'state' | 'installs' | 'ready'> | undefined;
}

/** Ready: the source's first word was worked in, and a tunnel is there to take pods. */
export function statusOf(known: Known): AgentStatus {
  const { config, driver, reconciler, zds, source } = known;
  const connections = zds.connections().map(({ id, since, peer }) => ({ id, pid: peer.pid, since: since.toISOString() }));
  const count = (wanted: PodSummary): number =>
    reconciler.registry.all().filter((entry) => entry.record !== undefined && summary(entry) === wanted).length;
  return {
    node: config.node,
    version,
    kernel: release(),
    ready: reconciler.started && connections.length > 0,
    driver: { name: driver.name, forced: driver.forced ?? false, reasons: driver.reasons },
    tunnel: { kind: config.tunnel, connections },
    pods: { enrolled: count('enrolled'), pending: count('pending'), notEnrolled: count('not-enrolled') },
    source: { kind: source.kind, synced: source.synced() },
    ...(known.installation === undefined ? {} : { install: installOf(known.installation.state) }),
    problems: [...known.readiness.reasons, ...(connections.length > 0 ? [] : ['no tunnel is connected: enrolled pods are refused'])],
  };
}

function installOf({ ready, file, reason }: InstallationState): NonNullable<AgentStatus['install']> {
  return { ready, file: file ?? '', reason };
}

/**
 * What STATUS of the plugin asks. A tunnel is no part of it: on a node whose network is not ready kubelet starts no pod that needs one,
 * and the tunnel is such a pod. Measured: it never came back.
 */
export function readinessOf({ reconciler }: Pick<Known, 'reconciler'>): CniStatusResponse {
  const ready = reconciler.started;
  return { ready, reason: ready ? '' : 'the source has not said yet which pods there are' };
}

export async function podsOf(known: Known): Promise<PodStatus[]> {
  const counted = await known.driver.countersOfAll?.();
  return known.reconciler.registry
    .all()
    .map((entry) => podOf(known, entry, counted))
    .sort((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1));
}

function podOf(known: Known, entry: Entry, counted?: ReadonlyMap<bigint, PodCounters>): PodStatus {
  const { config, driver } = known;
  const { subject, since } = entry.pod;
  const warnings = warningsOf(known, entry);
  const { cookie } = subject;
  return {
    uid: subject.uid,
    namespace: subject.namespace,
    name: subject.name,
    node: config.node,
    ips: entry.record?.ips ?? [],
    netnsCookie: cookie === undefined ? '' : String(cookie),
    state: summary(entry),
    datapath: subject.datapath,
    reason: reason(entry),
    ...(warnings.length === 0 ? {} : { warnings }),
    driver: (cookie === undefined ? undefined : driver.servedBy?.(cookie)) ?? subject.driver ?? driver.name,
    since: since.toISOString(),
    counters: cookie === undefined || subject.datapath === 'none' ? NO_COUNTERS : (counted?.get(cookie) ?? driver.counters(cookie)),
  };
}

/** What is not as the pod's owner may expect, by its annotations and by the datapath; one sentence each. */
export function warningsOf({ datapathWarnings }: Pick<Known, 'datapathWarnings'>, entry: Entry): string[] {
  return [...entry.warnings.values(), ...datapathWarnings.of(entry)];
}
