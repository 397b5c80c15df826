import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isCulvert } from '../../../../src/base/errors.ts';
import { Sharing } from '../../../../src/kubernetes/sharing.ts';
import { namespaceRecord, podRecord } from '../../../../src/sources/kubernetes/records.ts';

const read = (fields: object, metadata: object = {}): ReturnType<typeof podRecord> =>
  podRecord({ metadata: { namespace: 'shop', name: 'a', uid: 'u1', ...metadata }, ...fields }, new Sharing());

describe('pod of the Kubernetes source', () => {
  it('has defaults for all that a new one lacks', () => {
    expect(read({})).toEqual({
      uid: 'u1',
      namespace: 'shop',
      name: 'a',
      node: '',
      serviceAccount: 'default',
      labels: {},
      annotations: {},
      ips: [],
      containerIds: [],
      hostNetwork: false,
      phase: 'Pending',
    });
  });

  it('is what spec and status say', () => {
    const spec = { nodeName: 'node1', serviceAccountName: 'web', hostNetwork: true };
    const status = {
      phase: 'Running',
      podIP: '10.0.0.1',
      podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }],
      containerStatuses: [{ containerID: 'containerd://c1' }, { state: { waiting: {} } }],
      initContainerStatuses: [{ containerID: 'cri-o://i1' }],
    };
    expect(read({ spec, status }, { labels: { app: 'web' } })).toMatchObject({
      ...{ node: 'node1', serviceAccount: 'web', hostNetwork: true, phase: 'Running', labels: { app: 'web' } },
      ips: ['10.0.0.1', 'fd00::1'],
      containerIds: ['c1', 'i1'],
    });
    expect(read({ status: { podIP: '10.0.0.1' } }).ips).toEqual(['10.0.0.1']);
  });

  it('has not ended because its node was not heard of', () => {
    expect(read({ status: { phase: 'Unknown' } }).phase).toBe('Running');
  });

  it("keeps the mesh's annotations and kubelet's uid of a static pod, and no others", () => {
    const annotations = {
      'ambient.istio.io/redirection': 'enabled',
      'sidecar.istio.io/status': '{}',
      'culvert.dev/existing-connections': 'close',
      'kubernetes.io/config.hash': '0123456789abcdef',
      'kubernetes.io/config.source': 'file',
      'kubectl.kubernetes.io/last-applied-configuration': '{…}',
    };
    expect(Object.keys(read({}, { annotations }).annotations)).toEqual([
      'ambient.istio.io/redirection',
      'sidecar.istio.io/status',
      'culvert.dev/existing-connections',
      'kubernetes.io/config.hash',
    ]);
  });

  it('is refused with the path of every fault', () => {
    const broken = { spec: { hostNetwork: 'yes' }, status: { phase: 'Odd', podIPs: [{ ip: 7 }] } };
    expect(() => read(broken, { uid: undefined })).toThrow(
      'read Pod shop/a: metadata.uid is missing; status.podIPs[0].ip is no string; spec.hostNetwork is no boolean; ' +
        'status.phase is none of Pending, Running, Succeeded, Failed, Unknown',
    );
  });

  it('is read or refused by name, whatever comes', () => {
    const anything = fc.dictionary(fc.constantFrom('spec', 'status', 'metadata'), fc.jsonValue());
    fc.assert(
      fc.property(anything, (fields) => {
        const object = { ...fields, metadata: { namespace: 'shop', name: 'a', uid: 'u1', ...(fields['metadata'] as object | null) } };
        try {
          podRecord(object, new Sharing());
          namespaceRecord(object);
        } catch (error) {
          expect(isCulvert(error, 'SOURCE_INVALID')).toBe(true);
        }
      }),
    );
  });
});

it('a namespace has its labels and the annotations of the mesh', () => {
  const metadata = { name: 'shop', labels: { team: 'a' }, annotations: { 'culvert.dev/existing-connections': 'close', note: 'x' } };
  expect(namespaceRecord({ metadata })).toEqual({
    name: 'shop',
    labels: { team: 'a' },
    annotations: { 'culvert.dev/existing-connections': 'close' },
  });
});
