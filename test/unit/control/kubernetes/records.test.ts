import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isCulvert } from '../../../../src/base/errors.ts';
import type { KubeObject } from '../../../../src/kubernetes/api.ts';
import { isRecord } from '../../../../src/kubernetes/json.ts';
import { endpointSliceRecord } from '../../../../src/control/kubernetes/endpoint-slice.ts';
import { namespaceRecord, nodeRecord, serviceAccountRecord } from '../../../../src/control/kubernetes/plain.ts';
import { podRecord } from '../../../../src/control/kubernetes/pod.ts';
import { servedVersion } from '../../../../src/control/kubernetes/policies.ts';
import { policyRecord } from '../../../../src/control/kubernetes/policy.ts';
import { serviceRecord } from '../../../../src/control/kubernetes/service.ts';
import { Sharing } from '../../../../src/kubernetes/sharing.ts';

const object = (fields: object, metadata: object = {}): KubeObject => ({
  metadata: { namespace: 'shop', name: 'a', uid: 'u1', ...metadata },
  ...fields,
});
const pod = (fields: object, metadata?: object): ReturnType<typeof podRecord> => podRecord(object(fields, metadata), new Sharing());
const service = (spec: object, metadata?: object): ReturnType<typeof serviceRecord> =>
  serviceRecord(object({ spec }, metadata), new Sharing());
const slice = (fields: object, metadata?: object): ReturnType<typeof endpointSliceRecord> =>
  endpointSliceRecord(object({ addressType: 'IPv4', ...fields }, metadata), new Sharing());

describe('pod', () => {
  it('has defaults for all that a new one lacks', () => {
    expect(pod({})).toEqual({
      kind: 'Pod',
      namespace: 'shop',
      name: 'a',
      uid: 'u1',
      node: '',
      serviceAccount: '',
      labels: {},
      annotations: {},
      ips: [],
      hostNetwork: false,
      phase: 'Pending',
      ready: false,
      terminating: false,
      ports: [],
    });
  });

  it('takes all addresses, or the one of an old server', () => {
    expect(pod({ status: { podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }] } }).ips).toEqual(['10.0.0.1', 'fd00::1']);
    expect(pod({ status: { podIP: '10.0.0.1' } }).ips).toEqual(['10.0.0.1']);
    expect(pod({ status: { podIP: '', podIPs: null } }).ips).toEqual([]);
  });

  it('is ready by its condition, and ends with a deletion timestamp', () => {
    const conditions = [{ type: 'Initialized', status: 'True' }];
    expect(pod({ status: { conditions } }).ready).toBe(false);
    expect(pod({ status: { conditions: [...conditions, { type: 'Ready', status: 'False' }] } }).ready).toBe(false);
    expect(pod({ status: { conditions: [...conditions, { type: 'Ready', status: 'True' }] } }).ready).toBe(true);
    expect(pod({}, { deletionTimestamp: '2026-01-01T00:00:00Z' }).terminating).toBe(true);
  });

  it('has the named TCP ports of what runs on, and its controlling owner', () => {
    const spec = {
      containers: [
        { ports: [{ name: 'http', containerPort: 80 }, { containerPort: 81 }, { name: 'u', containerPort: 82, protocol: 'UDP' }] },
      ],
      initContainers: [
        { restartPolicy: 'Always', ports: [{ name: 'side', containerPort: 90, protocol: 'TCP' }] },
        { ports: [{ name: 'once', containerPort: 91 }] },
      ],
    };
    const ownerReferences = [
      { kind: 'Node', name: 'n' },
      { kind: 'ReplicaSet', name: 'web-1', controller: true },
    ];
    expect(pod({ spec }, { ownerReferences })).toMatchObject({
      ports: [
        { name: 'http', port: 80 },
        { name: 'side', port: 90 },
      ],
      owner: { kind: 'ReplicaSet', name: 'web-1' },
    });
  });

  it('keeps the annotations of the mesh only', () => {
    const annotations = {
      'ambient.istio.io/redirection': 'enabled',
      'istio.io/dry-run': 'x',
      'culvert.dev/a': 'b',
      'evil-istio.io/x': 'y',
      'kubectl.kubernetes.io/last-applied-configuration': 'long',
    };
    expect(Object.keys(pod({}, { annotations }).annotations)).toEqual([
      'ambient.istio.io/redirection',
      'istio.io/dry-run',
      'culvert.dev/a',
    ]);
  });

  it('names every fault at once, and itself', () => {
    const broken = { spec: { nodeName: 1, hostNetwork: 'no' }, status: { podIPs: [{ ip: [] }], phase: 'Dancing' } };
    expect(() => pod(broken, { uid: undefined, labels: { a: 1 } })).toThrow(
      'read Pod shop/a: metadata.uid is missing; spec.nodeName is no string; metadata.labels is no map of strings; ' +
        'status.podIPs[0].ip is no string; spec.hostNetwork is no boolean; status.phase is none of Pending, Running, Succeeded, Failed, Unknown',
    );
  });

  it('shares what is the same in many', () => {
    const sharing = new Sharing();
    const [a, b] = ['a', 'b'].map((name) => podRecord(object({ spec: { nodeName: 'n' } }, { name, labels: { app: 'web' } }), sharing));
    expect(a!.labels).toBe(b!.labels);
  });
});

describe('service', () => {
  it('is headless by its cluster address', () => {
    expect(service({ clusterIP: 'None', clusterIPs: ['None'] })).toMatchObject({ headless: true, clusterIps: [] });
    expect(service({ clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1', 'fd00::1'] })).toMatchObject({
      headless: false,
      clusterIps: ['10.96.0.1', 'fd00::1'],
    });
    expect(service({ clusterIP: '10.96.0.1' }).clusterIps).toEqual(['10.96.0.1']);
  });

  it('has its TCP ports with number or name as target', () => {
    const ports = [
      { port: 80 },
      { name: 'b', port: 81, targetPort: 8081, protocol: 'TCP', appProtocol: 'http' },
      { name: 'c', port: 82, targetPort: 'web' },
      { name: 'd', port: 53, protocol: 'UDP' },
    ];
    expect(service({ ports }).ports).toEqual([
      { name: '', port: 80, targetPort: 80 },
      { name: 'b', port: 81, targetPort: 8081, appProtocol: 'http' },
      { name: 'c', port: 82, targetPort: 'web' },
    ]);
  });

  it('has defaults, and what it says', () => {
    expect(service({})).toMatchObject({
      type: 'ClusterIP',
      selector: {},
      ports: [],
      publishNotReadyAddresses: false,
      internalTrafficPolicy: 'Cluster',
    });
    const spec = { type: 'ExternalName', trafficDistribution: 'PreferClose', internalTrafficPolicy: 'Local', ipFamilies: ['IPv6', 'IPv9'] };
    expect(service(spec)).toMatchObject({ ...spec, ipFamilies: ['IPv6'] });
  });

  it('names its faults', () => {
    expect(() => service({ ports: [{ targetPort: {} }], type: 'Odd' })).toThrow(
      'read Service shop/a: spec.type is none of ClusterIP, NodePort, LoadBalancer, ExternalName; spec.ports[0].port is missing; ' +
        'spec.ports[0].targetPort is neither number nor name',
    );
  });
});

describe('endpoint slice', () => {
  it('counts unknown readiness as ready', () => {
    const endpoints = [
      { addresses: ['1.1.1.1'] },
      { addresses: ['1.1.1.2'], conditions: { ready: null } },
      { addresses: ['1.1.1.3'], conditions: { ready: false } },
    ];
    expect(slice({ endpoints }).endpoints.map(({ ready }) => ready)).toEqual([true, true, false]);
  });

  it('has service, ports, and what is behind each address', () => {
    const targetRef = { kind: 'Pod', namespace: 'shop', name: 'web-1', uid: 'u2' };
    expect(
      slice(
        {
          ports: [{ name: 'http', port: 8080 }, { port: null }, { name: 'dns', port: 53, protocol: 'UDP' }],
          endpoints: [{ addresses: ['1.1.1.1'], nodeName: 'n', zone: 'z', targetRef }],
        },
        { labels: { 'kubernetes.io/service-name': 'web' } },
      ),
    ).toMatchObject({
      service: 'web',
      ports: [{ name: 'http', port: 8080 }],
      endpoints: [{ addresses: ['1.1.1.1'], node: 'n', zone: 'z', target: targetRef }],
    });
  });
});

describe('a port', () => {
  it.each([-1, 0, 70_000, 80.5])('is none when its number is %d, though the API server lets it pass', (port) => {
    expect(() => slice({ ports: [{ port: 80 }, { port }] })).toThrow('read EndpointSlice shop/a: ports[1].port is no port');
    expect(() => service({ ports: [{ port }] })).toThrow('read Service shop/a: spec.ports[0].port is no port');
  });
});

describe('policy', () => {
  it('keeps its spec as it came', () => {
    const spec = { anything: [1, { goes: true }] };
    const record = policyRecord('AuthorizationPolicy', object({ spec }, { generation: 3, creationTimestamp: '2026-01-02T03:04:05Z' }));
    expect(record).toMatchObject({ spec, generation: 3, created: Date.UTC(2026, 0, 2, 3, 4, 5) });
  });

  it('is read in the first version that is served and established', () => {
    const definition = (versions: unknown, established = 'True'): KubeObject =>
      object({ spec: { versions }, status: { conditions: [{ type: 'Established', status: established }] } });
    const served = (name: string, is = true): object => ({ name, served: is });
    expect(servedVersion(definition([served('v1beta1'), served('v1')]))).toBe('v1');
    expect(servedVersion(definition([served('v1beta1'), served('v1', false)]))).toBe('v1beta1');
    expect(servedVersion(definition([served('v2')]))).toBeUndefined();
    expect(servedVersion(definition([served('v1')], 'False'))).toBeUndefined();
  });
});

describe('any JSON at all', () => {
  /** Real field names, so that what is drawn gets past the first. */
  const NAMES = [
    'spec',
    'status',
    'metadata',
    'ports',
    'containers',
    'conditions',
    'podIPs',
    'ip',
    'labels',
    'endpoints',
    'addresses',
    'port',
    'name',
  ];
  const { json } = fc.letrec<{ json: unknown }>((tie) => ({
    json: fc.oneof(
      { maxDepth: 5 },
      fc.constantFrom(null, true, 0, -1, 1.5, '', 'True', 'TCP', '10.0.0.1'),
      fc.array(tie('json'), { maxLength: 3 }),
      fc.dictionary(fc.oneof(fc.constantFrom(...NAMES), fc.string()), tie('json'), { maxKeys: 6 }),
    ),
  }));
  const converters: Record<string, (raw: KubeObject) => unknown> = {
    Pod: (raw) => podRecord(raw, new Sharing()),
    Service: (raw) => serviceRecord(raw, new Sharing()),
    EndpointSlice: (raw) => endpointSliceRecord(raw, new Sharing()),
    ServiceAccount: (raw) => serviceAccountRecord(raw, new Sharing()),
    Namespace: namespaceRecord,
    Node: nodeRecord,
    AuthorizationPolicy: (raw) => policyRecord('AuthorizationPolicy', raw),
  };

  it.each(Object.keys(converters))('is a %s, or refused by name with its faults', (kind) => {
    fc.assert(
      fc.property(json, json, (metadata, fields) => {
        const raw = { ...(isRecord(fields) ? fields : {}), metadata: { ...(isRecord(metadata) ? metadata : {}), name: 'a' } };
        try {
          expect(converters[kind]!(raw as KubeObject)).toMatchObject({ kind, name: 'a' });
        } catch (error) {
          if (!isCulvert(error, 'SOURCE_INVALID')) throw error;
          expect(error.message).toMatch(/^read \w+ (.*\/)?a: ./s);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('is no reason for a definition to throw', () => {
    fc.assert(fc.property(json, json, (spec, status) => ['v1', 'v1beta1', undefined].includes(servedVersion(object({ spec, status })))));
  });
});
