import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeltaDiscoveryResponseSchema, ResourceSchema, type Resource } from '../../../../src/proto/discovery_pb.js';
import { Action, AuthorizationSchema, Scope } from '../../../../src/proto/security_pb.js';
import {
  AddressSchema,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  NetworkMode,
  TunnelProtocol,
  WorkloadStatus,
  WorkloadType,
} from '../../../../src/proto/workload_pb.js';
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from '../../../../src/rpc/services.ts';
import { convert, type Converted, type ResourceType } from '../../../../src/sources/xds/convert.ts';
import { canonicalIp } from '../../../../src/state/address.ts';
import { ipBytes, policyResource, rawResource, serviceResource, workloadResource } from '../../../support/control-plane/resources.ts';

const WEB = 'cluster//Pod/shop/web';
const WEB_SERVICE = 'shop/web.shop.svc.cluster.local';

async function read(
  resource: Resource,
  type: ResourceType = ADDRESS_TYPE,
  network = '',
): Promise<{ converted: Converted | undefined; faults: string[] }> {
  const conversion = await convert([resource], type, network, new AbortController().signal);
  const { good, rejected } = conversion!;
  expect(good.length + rejected.length).toBe(1);
  expect(rejected.every(({ faults }) => faults.length > 0)).toBe(true);
  return { converted: good[0], faults: rejected[0]?.faults ?? [] };
}
const faultsOf = async (resource: Resource, type?: ResourceType): Promise<string[]> => (await read(resource, type)).faults;

describe('workload', () => {
  it('becomes state with every field the tunnel uses', async () => {
    const resource = workloadResource('web', '10.1.0.1', {
      addresses: [ipBytes('10.1.0.1'), ipBytes('fd00:0:0:0:0:0:0:1'), ipBytes('0:0:0:0:0:ffff:0a01:0002'), ipBytes('10.1.0.1')],
      network: 'net2',
      clusterId: 'c2',
      trustDomain: 'td',
      status: WorkloadStatus.UNHEALTHY,
      networkMode: NetworkMode.HOST_NETWORK,
      workloadType: WorkloadType.JOB,
      workloadName: 'wn',
      canonicalName: 'cn',
      canonicalRevision: 'r1',
      authorizationPolicies: ['shop/p'],
      locality: { region: 'r', zone: 'z', subzone: 's' },
      services: {
        [WEB_SERVICE]: { ports: [{ servicePort: 80, targetPort: 8080 }, { servicePort: 443 }, { servicePort: 80, targetPort: 8081 }] },
      },
    });
    expect((await read(resource)).converted).toEqual({
      name: WEB,
      version: 'v1',
      aliases: [],
      unused: '',
      kind: 'workload',
      value: {
        uid: WEB,
        namespace: 'shop',
        name: 'web',
        serviceAccount: 'web',
        node: 'node1',
        network: 'net2',
        clusterId: 'c2',
        trustDomain: 'td',
        ips: ['10.1.0.1', 'fd00::1', '10.1.0.2'],
        protocol: 'HBONE',
        healthy: false,
        hostNetwork: true,
        identity: 'spiffe://td/ns/shop/sa/web',
        services: new Map([
          [
            WEB_SERVICE,
            new Map([
              [80, 8081],
              [443, 0],
            ]),
          ],
        ]),
        policies: ['shop/p'],
        workloadName: 'wn',
        workloadType: 'job',
        canonicalName: 'cn',
        canonicalRevision: 'r1',
        locality: { region: 'r', zone: 'z', subzone: 's' },
      },
    });
  });

  it('has the defaults of ztunnel, and may be without address', async () => {
    const { converted } = await read(workloadResource('web', undefined, { serviceAccount: '', tunnelProtocol: TunnelProtocol.NONE }));
    expect(converted?.value).toMatchObject({
      ...{ ips: [], protocol: 'TCP', healthy: true, hostNetwork: false, clusterId: 'Kubernetes', workloadType: 'deployment' },
      identity: 'spiffe://cluster.local/ns/shop/sa/default',
    });
  });

  it('is refused with all that is wrong with it', async () => {
    const resource = workloadResource('web', undefined, {
      namespace: '',
      addresses: [Uint8Array.of(1, 2, 3), ipBytes('0.0.0.0'), ipBytes('0:0:0:0:0:0:0:0'), new Uint8Array(0)],
      tunnelProtocol: TunnelProtocol.LEGACY_ISTIO_MTLS,
      status: 4 as never,
      networkMode: -1 as never,
      applicationTunnel: { protocol: 3 as never },
      waypoint: { hboneMtlsPort: 70000 },
      networkGateway: { destination: { case: 'address', value: { address: Uint8Array.of(1) } } },
      services: {
        nohost: {},
        'a/b/c': {},
        [WEB_SERVICE]: { ports: [{ servicePort: 0 }, { servicePort: 65536 }, { servicePort: 1, targetPort: 65536 }] },
      },
    });
    expect((await faultsOf(resource)).map((fault) => fault.replace(`${WEB}: `, ''))).toEqual([
      'namespace "": must not be empty',
      'addresses[0] 0x010203: 3 bytes, an address has 4 or 16',
      'addresses[1] "0.0.0.0": is no address of anything',
      'addresses[2] "::": is no address of anything',
      'addresses[3] 0x: 0 bytes, an address has 4 or 16',
      'services "nohost": key must be "namespace/hostname"',
      'services "a/b/c": key must be "namespace/hostname"',
      `services["${WEB_SERVICE}"].ports[0].service_port 0: must be 1 to 65535`,
      `services["${WEB_SERVICE}"].ports[1].service_port 65536: must be 1 to 65535`,
      `services["${WEB_SERVICE}"].ports[2].target_port 65536: must be 0 (not said) to 65535`,
      'tunnel_protocol "LEGACY_ISTIO_MTLS": is not supported',
      'status 4: unknown enum value',
      'network_mode -1: unknown enum value',
      'application_tunnel.protocol 3: unknown enum value',
      'waypoint.hbone_mtls_port 70000: must be 0 to 65535',
      'waypoint: neither hostname nor address',
      'network_gateway.address.address 0x01: 1 bytes, an address has 4 or 16',
    ]);
  });

  it('is not refused for a type of tomorrow, which is but a label', async () => {
    expect((await read(workloadResource('web', '10.1.0.1', { workloadType: 77 as never }))).converted?.value).toMatchObject({
      workloadType: 'deployment',
    });
  });

  it('needs a uid, and the uid as its name', async () => {
    expect(await faultsOf(workloadResource('web', '10.1.0.1', { uid: '' }, { name: 'x' }))).toEqual(['x: uid "": must not be empty']);
    expect(await faultsOf(workloadResource('web', '10.1.0.1', {}, { name: 'x' }))).toEqual([`x: name "x": must be "${WEB}"`]);
    expect(await faultsOf(workloadResource('web', '10.1.0.1', { uid: '' }, { name: '' }))).toHaveLength(2);
  });
});

describe('service', () => {
  it('becomes state; addresses of other networks and ranges are left out', async () => {
    const service = serviceResource('web', undefined, {
      addresses: [
        { network: 'net1', address: ipBytes('10.96.0.1') },
        { network: 'net1', address: ipBytes('fd00:96:0:0:0:0:0:1'), length: 128 },
        { network: 'net2', address: ipBytes('10.96.0.2') },
        { network: 'net1', address: ipBytes('10.0.0.0'), length: 8 },
      ],
      loadBalancing: { healthPolicy: LoadBalancing_HealthPolicy.ALLOW_ALL },
      canonical: true,
      subjectAltNames: ['spiffe://td/ns/a/sa/b'],
      weightedWaypoints: [{ destination: { destination: { case: 'hostname', value: {} } } }],
      visibility: 9 as never,
    });
    const { converted } = await read(service, ADDRESS_TYPE, 'net1');
    expect(converted).toEqual({
      ...{ name: WEB_SERVICE, version: 'v1', aliases: [], unused: 'waypoint, address range 10.0.0.0/8', kind: 'service' },
      value: {
        ...{ key: WEB_SERVICE, namespace: 'shop', name: 'web', hostname: 'web.shop.svc.cluster.local', vips: ['10.96.0.1', 'fd00:96::1'] },
        ...{ ports: new Map([[80, 8080]]), allowUnhealthy: true, canonical: true, subjectAltNames: ['spiffe://td/ns/a/sa/b'] },
      },
    });
  });

  it('answers on no address when its callers are to go where they dialled', async () => {
    const { converted } = await read(serviceResource('web', '10.96.0.1', { loadBalancing: { mode: LoadBalancing_Mode.PASSTHROUGH } }));
    expect(converted?.value).toMatchObject({ vips: [] });
  });

  it('is refused with all that is wrong with it', async () => {
    const resource = serviceResource('web', undefined, {
      namespace: '',
      hostname: '',
      addresses: [{ address: Uint8Array.of(1) }, { address: ipBytes('10.0.0.1'), length: 33 }, { address: ipBytes('0.0.0.0') }],
      ports: [{ servicePort: 65537 }],
      ipFamilies: 8 as never,
      loadBalancing: {
        mode: 9 as never,
        healthPolicy: 5 as never,
        routingPreference: [LoadBalancing_Scope.UNSPECIFIED_SCOPE, 99 as never],
      },
      waypoint: {},
      weightedWaypoints: [{}],
    });
    expect((await faultsOf(resource)).map((fault) => fault.replace(/^.*?: /, ''))).toEqual([
      'namespace "": must not be empty',
      'hostname "": must not be empty',
      'addresses[0].address 0x01: 1 bytes, an address has 4 or 16',
      'addresses[1].length 33: an address of this family has 32 bits',
      'addresses[2].address "0.0.0.0": is no address of anything',
      'ports[0].service_port 65537: must be 1 to 65535',
      'load_balancing.mode 9: unknown enum value',
      'load_balancing.health_policy 5: unknown enum value',
      'load_balancing.routing_preference[0] 0: must say a scope',
      'load_balancing.routing_preference[1] 99: unknown enum value',
      'ip_families 8: unknown enum value',
      'waypoint: neither hostname nor address',
      'weighted_waypoints[0].destination: is missing',
    ]);
  });
});

describe('policy', () => {
  it('is kept as it came, apart from the response that brought it', async () => {
    const rules = [{ clauses: [{ matches: [{ sourceIps: [{ address: ipBytes('10.0.0.0'), length: 8 }] }] }] }];
    const { converted } = await read(policyResource('p', { scope: Scope.NAMESPACE, action: Action.DENY, rules }), AUTHORIZATION_TYPE);
    if (converted?.kind !== 'policy') throw new Error('no policy');
    expect(converted.value).toMatchObject({ key: 'shop/p', authorization: { scope: Scope.NAMESPACE, action: Action.DENY } });
    const address = converted.value.authorization.rules[0]!.clauses[0]!.matches[0]!.sourceIps[0]!.address;
    expect(address.buffer.byteLength).toBeLessThan(64);
  });

  it('is refused when part of it cannot be read: a list that lost entries would match more', async () => {
    const match = {
      namespaces: [{}],
      notPrincipals: [{ matchType: { case: 'exact' as const, value: 'a' } }, {}],
      notSourceIps: [{ address: Uint8Array.of(1, 2), length: 0 }],
      destinationIps: [{ address: ipBytes('10.0.0.0'), length: 40 }],
      notDestinationPorts: [80, 65536],
      serviceAccounts: [{ namespace: 'shop' }],
    };
    const policy = policyResource('p', { scope: 3 as never, action: 2 as never, rules: [{ clauses: [{ matches: [match] }] }] });
    const at = 'shop/p: rules[0].clauses[0].matches[0]';
    expect(await faultsOf(policy, AUTHORIZATION_TYPE)).toEqual([
      'shop/p: scope 3: unknown enum value',
      'shop/p: action 2: unknown enum value',
      `${at}.namespaces[0]: neither exact, prefix, suffix nor presence`,
      `${at}.not_principals[1]: neither exact, prefix, suffix nor presence`,
      `${at}.not_source_ips[0].address 0x0102: 2 bytes, an address has 4 or 16`,
      `${at}.destination_ips[0].length 40: an address of this family has 32 bits`,
      `${at}.not_destination_ports[1] 65536: must be 0 to 65535`,
      `${at}.service_accounts[0].serviceAccount "": must not be empty`,
    ]);
  });
});

describe('anything else', () => {
  it('is refused by name', async () => {
    expect(await faultsOf(create(ResourceSchema, { name: 'x' }))).toEqual(['x: resource: is missing']);
    expect(await faultsOf(rawResource('x', AUTHORIZATION_TYPE, new Uint8Array()))).toEqual([
      `x: resource.type_url "${AUTHORIZATION_TYPE}": must be ${ADDRESS_TYPE}`,
    ]);
    expect(await faultsOf(rawResource('x', ADDRESS_TYPE, new Uint8Array()))).toEqual(['x: resource: neither workload nor service']);
    expect((await faultsOf(rawResource('x', ADDRESS_TYPE, Uint8Array.of(10, 255))))[0]).toMatch(/^x: resource.value: cannot be read: /);
  });

  it('random bytes never throw, neither as a resource nor as a whole response', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(ADDRESS_TYPE, AUTHORIZATION_TYPE), async (bytes, type) => {
        await read(rawResource('x', type, bytes), type);
        let response;
        try {
          response = fromBinary(DeltaDiscoveryResponseSchema, bytes); // what throws here ends the stream, see feed
        } catch {
          return;
        }
        await convert(response.resources, type, '', new AbortController().signal);
      }),
      { numRuns: 500 },
    );
  });

  it('valid resources with bytes flipped never throw', async () => {
    const valid = [
      workloadResource('web', '10.1.0.1', { services: { [WEB_SERVICE]: { ports: [{ servicePort: 80 }] } } }),
      serviceResource('web', '10.96.0.1'),
    ];
    const flips = fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...valid), flips, async (resource, changes) => {
        const bytes = Uint8Array.from(resource.resource!.value);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        await read(rawResource(resource.name, ADDRESS_TYPE, bytes));
      }),
      { numRuns: 1000 },
    );
  });

  it('random valid workloads come through as they are', async () => {
    const text = fc.string({ minLength: 1, maxLength: 20 }).filter((each) => each.isWellFormed());
    const label = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
    const ip = fc.oneof(
      fc.ipV4().filter((each) => each !== '0.0.0.0'),
      fc.uint8Array({ minLength: 16, maxLength: 16 }).filter((bytes) => bytes.some((byte) => byte > 0)),
    );
    const port = fc.integer({ min: 1, max: 65535 });
    const ports = fc.array(fc.record({ servicePort: port, targetPort: fc.nat(65535) }), { maxLength: 4 });
    const workload = fc.record({
      ...{ name: text, namespace: label, serviceAccount: label, node: text, network: text, trustDomain: label, canonicalName: text },
      services: fc.dictionary(
        fc.tuple(label, label).map((pair) => pair.join('/')),
        ports.map((list) => ({ ports: list })),
        { maxKeys: 4 },
      ),
      status: fc.constantFrom(WorkloadStatus.HEALTHY, WorkloadStatus.UNHEALTHY),
      authorizationPolicies: fc.array(text, { maxLength: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(workload, fc.array(ip, { maxLength: 3 }), async (given, ips) => {
        const addresses = ips.map((each) => (typeof each === 'string' ? ipBytes(each) : each));
        const resource = workloadResource('x', undefined, { ...given, addresses });
        const again = fromBinary(ResourceSchema, toBinary(ResourceSchema, resource));
        const { converted } = await read(again);
        if (converted?.kind !== 'workload') throw new Error('no workload');
        const { services, status, authorizationPolicies, ...same } = given;
        const { value } = converted;
        expect(value).toMatchObject({ ...same, healthy: status === WorkloadStatus.HEALTHY, policies: authorizationPolicies });
        expect(Object.fromEntries([...value.services].map(([key, map]) => [key, [...map]]))).toEqual(
          Object.fromEntries(
            Object.entries(services).map(([key, list]) => [
              key,
              [...new Map(list.ports.map((each) => [each.servicePort, each.targetPort]))],
            ]),
          ),
        );
        for (const each of value.ips) expect(canonicalIp(each)).toBe(each);
        expect(new Set(value.ips).size).toBe(value.ips.length);
        for (const each of ips) if (typeof each === 'string') expect(value.ips).toContain(each);
      }),
      { numRuns: 200 },
    );
  });

  it('AddressSchema and AuthorizationSchema drop what they do not know', async () => {
    const bytes = Uint8Array.of(...workloadResource('web', '10.1.0.1').resource!.value, 0xf8, 0x01, 0x05);
    expect((await read(rawResource(WEB, ADDRESS_TYPE, bytes))).faults).toEqual([]);
    expect(AddressSchema.typeName).toBe(ADDRESS_TYPE.split('/')[1]);
    expect(AuthorizationSchema.typeName).toBe(AUTHORIZATION_TYPE.split('/')[1]);
  });
});

describe('conversion of a response', () => {
  it('keeps the order, and separates the good from the bad', async () => {
    const resources = [
      workloadResource('a', '10.1.0.1'),
      rawResource('bad', ADDRESS_TYPE, Uint8Array.of(255)),
      workloadResource('b', '10.1.0.2'),
    ];
    const conversion = await convert(resources, ADDRESS_TYPE, '', new AbortController().signal);
    expect(conversion?.good.map(({ name }) => name)).toEqual(['cluster//Pod/shop/a', 'cluster//Pod/shop/b']);
    expect(conversion?.rejected.map(({ name }) => name)).toEqual(['bad']);
  });

  it('lets others run meanwhile, and stops when it is no longer wanted', async () => {
    const resources = Array.from({ length: 5000 }, (_, index) => workloadResource(`w${index}`, `10.1.${index >> 8}.${index & 255}`));
    const aborting = new AbortController();
    let turns = 0;
    const turn = setInterval(() => turns++, 1);
    expect((await convert(resources, ADDRESS_TYPE, '', aborting.signal))?.good).toHaveLength(5000);
    clearInterval(turn);
    expect(turns).toBeGreaterThan(1);
    const stopped = convert(resources, ADDRESS_TYPE, '', aborting.signal);
    aborting.abort();
    expect(await stopped).toBeUndefined();
  });
});
