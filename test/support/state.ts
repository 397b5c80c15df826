/** Records of a mesh with everything filled in, so that a test states only what it is about. */
import { create } from '@bufbuild/protobuf';
import { AuthorizationSchema, type Authorization } from '../../src/proto/security_pb.js';
import { spiffeId, type Policy, type PortMap, type Service, type StateDelta, type Workload } from '../../src/state/workload.ts';

/** Captured and healthy, in namespace shop on node1; its service account is called like it. */
export function workload(name: string, ip: string, overrides: Partial<Workload> = {}): Workload {
  const namespace = overrides.namespace ?? 'shop';
  const serviceAccount = overrides.serviceAccount ?? name;
  const trustDomain = overrides.trustDomain ?? 'cluster.local';
  return {
    uid: `uid-${name}`,
    namespace,
    name,
    serviceAccount,
    node: 'node1',
    network: '',
    clusterId: '',
    trustDomain,
    ips: [ip],
    protocol: 'HBONE',
    healthy: true,
    hostNetwork: false,
    identity: spiffeId(trustDomain, namespace, serviceAccount),
    services: new Map(),
    policies: [],
    workloadName: name,
    workloadType: 'pod',
    canonicalName: name,
    canonicalRevision: '',
    locality: { region: '', zone: '', subzone: '' },
    ...overrides,
  };
}

/** web.shop on 10.96.0.1, port 80 to 8080. */
export function service(overrides: Partial<Service> = {}): Service {
  const namespace = overrides.namespace ?? 'shop';
  const name = overrides.name ?? 'web';
  const hostname = overrides.hostname ?? `${name}.${namespace}.svc.cluster.local`;
  return {
    key: `${namespace}/${hostname}`,
    namespace,
    name,
    hostname,
    vips: ['10.96.0.1'],
    ports: new Map([[80, 8080]]),
    allowUnhealthy: false,
    canonical: true,
    subjectAltNames: [],
    ...overrides,
  };
}

export function policy(key: string, content: Partial<Omit<Authorization, '$typeName' | '$unknown'>> = {}): Policy {
  const [namespace = '', name = ''] = key.split('/');
  return { key, authorization: create(AuthorizationSchema, { namespace, name, ...content }) };
}

/** What makes a workload an endpoint of web.shop, or of another. */
export function endpointOf(key = 'shop/web.shop.svc.cluster.local', ports: PortMap = new Map([[80, 8080]])): Pick<Workload, 'services'> {
  return { services: new Map([[key, ports]]) };
}

export function delta(change: Partial<Omit<StateDelta, 'removed'>> & { removed?: Partial<StateDelta['removed']> } = {}): StateDelta {
  return {
    workloads: change.workloads ?? [],
    services: change.services ?? [],
    policies: change.policies ?? [],
    removed: { workloads: [], services: [], policies: [], ...change.removed },
  };
}
