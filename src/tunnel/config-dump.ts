/** What the admin door shows, in the shape that `istioctl ztunnel-config` reads; our extra fields are beside, never instead. */
import { X509Certificate } from 'node:crypto';
import { formatAddress } from '../state/address.ts';
import type { StateStore } from '../state/store.ts';
import { qualifiedName, type Service, type Workload } from '../state/workload.ts';
import type { Certificates } from './certificates.ts';
import type { Connection } from './connections.ts';
import type { PodProxy } from './pod-proxy.ts';
import { dumpPolicy } from './policy-dump.ts';
import type { Workloads } from './workloads.ts';

export interface DumpedConnection {
  src: string;
  originalDst: string;
  actualDst: string;
  protocol: 'HBONE' | 'TCP';
  /** SPIFFE identity of the far end, null without mTLS */
  peerIdentity: string | null;
  /** bytes into and out of the pod so far */
  bytesIn: number;
  bytesOut: number;
}

/** A row of `culvert connections`. Istio's ztunnel counts no bytes of an open connection: null. */
export interface ConnectionRow extends Omit<DumpedConnection, 'bytesIn' | 'bytesOut'> {
  node: string;
  bytesIn: number | null;
  bytesOut: number | null;
  /** "namespace/name" */
  pod: string;
  direction: 'inbound' | 'outbound';
}

/** The row of `culvert certs`, and the certificates. `notBefore`, `notAfter` and `serial` are the leaf's, null while there is none. */
export interface DumpedCertificate {
  node: string;
  identity: string;
  state: string;
  notBefore: string | null;
  notAfter: string | null;
  serial: string | null;
  /** why the last try to get or renew it failed, and when; null after one that did not */
  error: string | null;
  errorTime: string | null;
  certChain: { pem: string; serialNumber: string; validFrom: string; expirationTime: string }[];
  rootCerts: { pem: string; serialNumber: string; validFrom: string; expirationTime: string }[];
}

/** What we read of it ourselves. */
export interface DumpedWorkload {
  namespace: string;
  name: string;
  protocol: 'HBONE' | 'TCP';
  [field: string]: unknown;
}

export interface ConfigDump {
  workloads: DumpedWorkload[];
  services: unknown[];
  policies: unknown[];
  certificates: DumpedCertificate[];
  connections: ConnectionRow[];
  /** by pod uid */
  workloadState: Record<
    string,
    {
      state: 'Up' | 'Pending';
      info: { name: string; namespace: string; serviceAccount: string };
      connections: { inbound: DumpedConnection[]; outbound: DumpedConnection[] };
    }
  >;
  version: { version: string };
  config: { nodeName: string; trustDomain: string };
}

export function configDump(
  tunnel: { node: string; version: string },
  state: StateStore,
  certificates: Certificates,
  workloads: Workloads<PodProxy>,
): ConfigDump {
  const { node } = tunnel;
  const rows: ConnectionRow[] = [];
  const workloadState: ConfigDump['workloadState'] = {};
  for (const { uid, info } of workloads.pending())
    workloadState[uid] = { state: 'Pending', info, connections: { inbound: [], outbound: [] } };
  for (const { uid, proxy } of workloads.running()) {
    const live = proxy.connections.list();
    const connections = { inbound: dumped(live, 'inbound'), outbound: dumped(live, 'outbound') };
    workloadState[uid] = { state: 'Up', info: proxy.info, connections };
    const pod = qualifiedName(proxy.info);
    for (const direction of ['inbound', 'outbound'] as const)
      rows.push(...connections[direction].map((row) => ({ node, pod, direction, ...row })));
  }
  return {
    workloads: Array.from(state.workloads(), dumpWorkload),
    services: Array.from(state.services(), (service) => dumpService(service, state)),
    policies: Array.from(state.policies(), dumpPolicy),
    certificates: certificates.list().map(({ identity, state: status, certificate, failure }) => ({
      node,
      identity,
      state: status,
      notBefore: certificate?.notBefore.toISOString() ?? null,
      notAfter: certificate?.notAfter.toISOString() ?? null,
      serial: certificate?.serial ?? null,
      error: failure?.reason ?? null,
      errorTime: failure?.at.toISOString() ?? null,
      certChain: (certificate?.chain ?? []).map(dumpCertificate),
      rootCerts: (certificate?.roots ?? []).map(dumpCertificate),
    })),
    connections: rows,
    workloadState,
    version: { version: tunnel.version },
    config: { nodeName: tunnel.node, trustDomain: trustDomainOf(state) },
  };
}

function dumped(connections: Connection[], direction: 'inbound' | 'outbound'): DumpedConnection[] {
  return connections
    .filter(({ facts }) => facts.direction === direction)
    .map(({ facts, originalDst, sent, received }) => ({
      src: formatAddress(facts.src),
      originalDst: formatAddress(originalDst),
      actualDst: formatAddress(facts.direction === 'inbound' ? originalDst : facts.dst),
      protocol: facts.protocol,
      peerIdentity: (direction === 'inbound' ? facts.srcIdentity : facts.dstIdentity) ?? null,
      bytesIn: received,
      bytesOut: sent,
    }));
}

/** Of this node's workloads; empty while there is none. */
function trustDomainOf(state: StateStore): string {
  const [workload] = state.localWorkloads();
  return workload?.trustDomain ?? '';
}

function dumpWorkload(workload: Workload): DumpedWorkload {
  return {
    uid: workload.uid,
    name: workload.name,
    namespace: workload.namespace,
    serviceAccount: workload.serviceAccount,
    trustDomain: workload.trustDomain,
    workloadIps: workload.ips,
    protocol: workload.protocol,
    node: workload.node,
    network: workload.network,
    clusterId: workload.clusterId,
    workloadName: workload.workloadName,
    workloadType: workload.workloadType,
    canonicalName: workload.canonicalName,
    canonicalRevision: workload.canonicalRevision,
    locality: workload.locality,
    networkMode: workload.hostNetwork ? 'HostNetwork' : 'Standard',
    status: workload.healthy ? 'Healthy' : 'Unhealthy',
    services: [...workload.services.keys()],
    authorizationPolicies: workload.policies,
  };
}

function dumpService(service: Service, state: StateStore): unknown {
  return {
    name: service.name,
    namespace: service.namespace,
    hostname: service.hostname,
    vips: service.vips.map((vip) => `${state.network}/${vip}`),
    ports: Object.fromEntries(service.ports),
    endpoints: Object.fromEntries(
      state.endpointsOf(service).map(({ workload, ports }) => [
        workload.uid,
        {
          workloadUid: workload.uid,
          port: Object.fromEntries(ports),
          status: workload.healthy ? 'Healthy' : 'Unhealthy',
          workload: qualifiedName(workload),
        },
      ]),
    ),
    subjectAltNames: service.subjectAltNames,
    canonical: service.canonical,
    ...(service.allowUnhealthy ? { loadBalancer: { routingPreferences: [], mode: 'Standard', healthPolicy: 'AllowAll' } } : {}),
  };
}

function dumpCertificate(pem: string): DumpedCertificate['certChain'][number] {
  const { serialNumber, validFromDate, validToDate } = new X509Certificate(pem);
  return {
    pem: Buffer.from(pem).toString('base64'),
    serialNumber,
    validFrom: validFromDate.toISOString(),
    expirationTime: validToDate.toISOString(),
  };
}
