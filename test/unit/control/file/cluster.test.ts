import { describe, expect, test } from 'vitest';
import type { ClusterObject, ObjectChange } from '../../../../src/control/cluster.ts';
import { createFileCluster } from '../../../../src/control/file/cluster.ts';
import type { MeshSnapshot, PodRecord, Source } from '../../../../src/sources/source.ts';

const pod = (name: string, more: Partial<PodRecord> = {}): PodRecord => ({
  ...{ uid: `uid-${name}`, namespace: 'shop', name, node: 'node1', serviceAccount: name, labels: { app: name }, annotations: {} },
  ...{ ips: ['10.244.1.2', 'fd00:244:1::2'], hostNetwork: false, phase: 'Running' },
  ...more,
});

const mesh = (pods: PodRecord[], services: string[] = []): MeshSnapshot => ({
  trustDomain: 'cluster.local',
  namespaces: new Map([['shop', { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' }, annotations: {} }]]),
  pods: new Map(pods.map((each) => [each.uid, each])),
  services: new Map(
    services.map((name) => [
      `shop/${name}`,
      {
        ...{ namespace: 'shop', name, hostname: `${name}.shop.svc.cluster.local`, selector: { app: name } },
        ...{ vips: ['10.96.0.10', 'fd00:96::a'], ports: [{ port: 80, targetPort: 8080 }] },
      },
    ]),
  ),
});

/** A source that the test speaks for. */
class Spoken implements Source {
  readonly kind = 'file';
  say: (snapshot: MeshSnapshot) => void = () => undefined;
  fail: (error: Error) => void = () => undefined;
  closed = false;

  watch(onSnapshot: (snapshot: MeshSnapshot) => void, onError: (error: Error) => void): { close(): void } {
    this.say = onSnapshot;
    this.fail = onError;
    return { close: () => (this.closed = true) };
  }

  synced(): boolean {
    return true;
  }

  annotate(): Promise<void> {
    return Promise.resolve();
  }
}

function watched(): { source: Spoken; batches: ObjectChange[][]; told: string[]; close: () => void } {
  const source = new Spoken();
  const batches: ObjectChange[][] = [];
  const told: string[] = [];
  const watch = createFileCluster(source).watch({
    onChanges: (changes) => {
      batches.push([...changes]);
      told.push('changes');
    },
    onSynced: () => told.push('synced'),
    onError: (error) => told.push(error.message),
  });
  return {
    ...{ source, batches, told },
    close: () => {
      watch.close();
    },
  };
}

const spell = (changes: ObjectChange[] = []): string[] =>
  changes.map(({ kind, key, object }) => `${object === undefined ? 'gone ' : ''}${kind} ${key}`).sort();

describe('a mesh file as a cluster', () => {
  test('tells every object once, then that it is synced', () => {
    const { source, batches, told } = watched();
    source.say(mesh([pod('web')], ['web']));
    expect(spell(batches[0])).toEqual(['Namespace shop', 'Node node1', 'Pod shop/web', 'Service shop/web', 'ServiceAccount shop/web']);
    expect(told).toEqual(['changes', 'synced']);
  });

  test('tells only what differs, and what is gone', () => {
    const { source, batches, told } = watched();
    source.say(mesh([pod('web'), pod('old', { node: 'node2' })], ['web']));
    source.say(mesh([pod('web', { annotations: { 'ambient.istio.io/redirection': 'enabled' } }), pod('old', { node: 'node2' })], ['web']));
    expect(spell(batches[1])).toEqual(['Pod shop/web']);
    source.say(mesh([pod('web', { annotations: { 'ambient.istio.io/redirection': 'enabled' } })]));
    expect(spell(batches[2])).toEqual(['gone Node node2', 'gone Pod shop/old', 'gone Service shop/web', 'gone ServiceAccount shop/old']);
    source.say(mesh([pod('web', { annotations: { 'ambient.istio.io/redirection': 'enabled' } })]));
    expect(batches).toHaveLength(3);
    expect(told.filter((what) => what === 'synced')).toHaveLength(1);
  });

  test('a pod that was replaced under its name is one change', () => {
    const { source, batches } = watched();
    source.say(mesh([pod('web')]));
    source.say(mesh([pod('web', { uid: 'another', ips: ['10.244.1.9'] })]));
    expect(spell(batches[1])).toEqual(['Pod shop/web']);
    expect((batches[1]?.[0]?.object as Extract<ClusterObject, { kind: 'Pod' }>).uid).toBe('another');
  });

  test('records carry what the catalogue needs', () => {
    const { source, batches } = watched();
    source.say(mesh([pod('web', { phase: 'Pending' })], ['web']));
    const objects = Object.fromEntries((batches[0] ?? []).map(({ kind, object }) => [kind, object]));
    expect(objects['Pod']).toMatchObject({ ready: false, node: 'node1', ips: ['10.244.1.2', 'fd00:244:1::2'], terminating: false });
    expect(objects['Service']).toMatchObject({ clusterIps: ['10.96.0.10', 'fd00:96::a'], headless: false, ipFamilies: ['IPv4', 'IPv6'] });
  });

  test('faults are handed on, closing ends the watch', () => {
    const { source, told, close } = watched();
    source.fail(new Error('read mesh: broken'));
    expect(told).toEqual(['read mesh: broken']);
    close();
    expect(source.closed).toBe(true);
  });
});
