/** Kubernetes Services as xDS services. */
import { describe, expect, it } from 'vitest';
import {
  AppProtocol,
  IPFamilies,
  LoadBalancing_HealthPolicy as Health,
  LoadBalancing_Mode as Mode,
  LoadBalancing_Scope as Scope,
} from '../../../../src/proto/workload_pb.js';
import { is, namespace, service, serviceRecord, synced } from './objects.ts';

const ANNOTATION = 'networking.istio.io/traffic-distribution';
const ZONE = { mode: Mode.FAILOVER, routingPreference: [Scope.NETWORK, Scope.REGION, Scope.ZONE] };
const NODE = { mode: Mode.FAILOVER, routingPreference: [Scope.NETWORK, Scope.REGION, Scope.ZONE, Scope.SUBZONE, Scope.NODE] };

describe('a service', () => {
  it('has every field that a tunnel reads', () => {
    const ports = [
      { name: 'http-web', port: 80, targetPort: 8080 },
      { name: 'metrics', port: 81, targetPort: 'metrics' },
    ];
    const { store } = synced([service('web', { clusterIps: ['10.96.0.1', 'FD01::0:1'], ports, ipFamilies: ['IPv4', 'IPv6'] })], {
      network: 'net1',
      clusterDomain: 'cluster.local',
    });
    expect(serviceRecord(store, 'web')).toMatchObject({
      ...{ name: 'web', namespace: 'shop', hostname: 'web.shop.svc.cluster.local', canonical: true, ipFamilies: IPFamilies.DUAL },
      addresses: [
        { network: 'net1', address: Uint8Array.of(10, 96, 0, 1) },
        { network: 'net1', address: Uint8Array.of(0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1) },
      ],
      ports: [
        { servicePort: 80, targetPort: 8080, appProtocol: AppProtocol.HTTP11 },
        { servicePort: 81, targetPort: 0, appProtocol: AppProtocol.UNKNOWN },
      ],
    });
    expect([...store.byAlias('net1/fd01::1')]).toEqual(['shop/web.shop.svc.cluster.local']);
  });

  it('headless, without ports or selector, is still a name; an ExternalName is none of the mesh', () => {
    const { store } = synced([
      service('headless', { clusterIps: [], headless: true }),
      service('bare', { ports: [], selector: {}, ipFamilies: [] }),
      service('dns', { type: 'ExternalName' }),
    ]);
    expect(serviceRecord(store, 'headless')).toMatchObject({ addresses: [], ipFamilies: IPFamilies.IPV4_ONLY });
    expect(serviceRecord(store, 'bare')).toMatchObject({ ports: [], ipFamilies: IPFamilies.AUTOMATIC });
    expect(serviceRecord(store, 'dns')).toBeUndefined();
  });

  it.each([
    ['nothing said', {}, {}, undefined],
    ['PreferClose', { trafficDistribution: 'PreferClose' }, {}, ZONE],
    ['PreferSameZone', { trafficDistribution: 'PreferSameZone' }, {}, ZONE],
    ['PreferSameNode', { trafficDistribution: 'PreferSameNode' }, {}, NODE],
    ['annotation', { annotations: { [ANNOTATION]: 'prefersamenode' } }, {}, NODE],
    ['namespace', {}, { annotations: { [ANNOTATION]: 'PreferClose' } }, ZONE],
    ['own over namespace', { annotations: { [ANNOTATION]: 'PreferClose' } }, { annotations: { [ANNOTATION]: 'PreferSameNode' } }, ZONE],
    ['field over annotation', { trafficDistribution: 'PreferClose', annotations: { [ANNOTATION]: 'PreferSameNode' } }, {}, ZONE],
    ['unknown word', { annotations: { [ANNOTATION]: 'Far' } }, { annotations: { [ANNOTATION]: 'PreferClose' } }, undefined],
    [
      'this node only',
      { internalTrafficPolicy: 'Local', trafficDistribution: 'PreferClose' },
      {},
      { mode: Mode.STRICT, routingPreference: [Scope.NODE] },
    ],
    [
      'unready, too',
      { publishNotReadyAddresses: true },
      {},
      { mode: Mode.UNSPECIFIED_MODE, routingPreference: [], healthPolicy: Health.ALLOW_ALL },
    ],
    [
      'unready and close',
      { publishNotReadyAddresses: true, trafficDistribution: 'PreferClose' },
      {},
      { ...ZONE, healthPolicy: Health.ALLOW_ALL },
    ],
  ] as const)('load balancing: %s', (_name, fields, ns, expected) => {
    const { store } = synced([namespace('shop', ns), service('web', fields)]);
    const found = serviceRecord(store, 'web')?.loadBalancing;
    if (expected === undefined) expect(found).toBeUndefined();
    else expect(found).toMatchObject({ healthPolicy: Health.ONLY_HEALTHY, ...expected });
  });

  it('follows its namespace', () => {
    const { store, catalog, told, lines } = synced([namespace('shop'), service('web')]);
    catalog.apply(is(namespace('shop', { annotations: { [ANNOTATION]: 'Sideways' } })));
    expect(lines).toEqual([
      expect.objectContaining({ object: 'Service shop/web', faults: ['traffic distribution "Sideways" is unknown'] }),
    ]);
    expect(told.changed).toEqual([]);
    catalog.apply(is(namespace('shop', { annotations: { [ANNOTATION]: 'PreferClose' } })));
    expect(told.changed).toEqual(['shop/web.shop.svc.cluster.local']);
    expect(serviceRecord(store, 'web')?.loadBalancing).toMatchObject(ZONE);
  });

  it.each([
    ['http', undefined, 80, AppProtocol.HTTP11],
    ['http2-api', undefined, 80, AppProtocol.HTTP2],
    ['grpc', undefined, 80, AppProtocol.GRPC],
    ['grpc-web', undefined, 80, AppProtocol.UNKNOWN],
    ['https-web', undefined, 443, AppProtocol.TLS],
    ['tls', undefined, 443, AppProtocol.TLS],
    ['TCP-x', undefined, 1, AppProtocol.TCP],
    ['web', undefined, 80, AppProtocol.UNKNOWN],
    ['web', undefined, 3306, AppProtocol.TCP],
    ['mysql', undefined, 3306, AppProtocol.UNKNOWN],
    ['web', 'http', 80, AppProtocol.HTTP11],
    ['http', 'kubernetes.io/h2c', 80, AppProtocol.HTTP2],
    ['http', 'kubernetes.io/wss', 80, AppProtocol.TLS],
    ['http', 'example.com/own', 80, AppProtocol.UNKNOWN],
    ['constructor', 'constructor', 80, AppProtocol.UNKNOWN],
  ])('port %s, appProtocol %s, %i', (name, appProtocol, port, expected) => {
    const one = { name, port, targetPort: port, ...(appProtocol === undefined ? {} : { appProtocol }) };
    const { store } = synced([service('web', { ports: [one] })]);
    expect(serviceRecord(store, 'web')?.ports[0]?.appProtocol).toBe(expected);
  });
});
