/** The agent's source on a real API server, with the permissions that its documentation lists and no others. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { createKubernetesSource } from '../../../src/sources/kubernetes/source.ts';
import type { MeshSnapshot, PodRecord, Source } from '../../../src/sources/source.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { relayTo, type Cut } from '../../support/kubernetes/cut.ts';
import { grantDocumented, subjectOf } from '../../support/kubernetes/permissions.ts';

const KEY = 'ambient.istio.io/redirection';
const ACCOUNT = { namespace: 'culvert-system', name: 'culvert-node' };
const until = (check: () => unknown): Promise<unknown> => vi.waitFor(check, { timeout: 40_000, interval: 10 });

let server: ApiServer;
let relay: Cut;
beforeAll(async () => {
  server = await startApiServer();
  await server.createNamespace(ACCOUNT.namespace);
  await grantDocumented(server.adminApi, 'kubernetes.md', ACCOUNT);
  relay = await relayTo(server.url, await server.userKubeconfig('agent', subjectOf(ACCOUNT)));
});
afterAll(async () => {
  relay.close();
  await server.close();
});

/** A source as the agent has it, and what it told. */
class Watching {
  readonly api: KubeApi & { close(): void };
  readonly source: Source;
  readonly errors: string[] = [];
  snapshots = 0;
  last: MeshSnapshot | undefined;
  readonly #watch: { close(): void };

  constructor(kubeconfig = relay.kubeconfig) {
    this.api = connectKubernetes({ kubeconfig, fieldManager: 'culvert-agent' });
    this.source = createKubernetesSource({ api: this.api, node: 'node1', log: createLogger('test', 'silent') });
    this.#watch = this.source.watch(
      (snapshot) => {
        this.last = snapshot;
        this.snapshots++;
      },
      (error) => this.errors.push(error.message),
    );
  }

  pod(name: string): PodRecord | undefined {
    return [...(this.last?.pods.values() ?? [])].find((pod) => pod.name === name);
  }

  synced(): Promise<unknown> {
    return until(() => expect(this.source.synced()).toBe(true));
  }

  close(): void {
    this.#watch.close();
    this.source.close?.();
    this.api.close();
  }
}

let watching: Watching;
afterEach(() => {
  relay.join();
  watching.close();
});

let spaces = 0;
/** A namespace of the test's own. */
async function namespace(labels: Record<string, string> = {}): Promise<string> {
  const name = `shop-${spaces++}`;
  await server.createNamespace(name, labels);
  return name;
}

/** What the API server has, not what a watch says. */
async function annotationOf(shop: string, name: string): Promise<string | undefined> {
  return (await server.adminApi.get(`/api/v1/namespaces/${shop}/pods/${name}`))?.metadata.annotations?.[KEY];
}

const named = ({ metadata: { namespace = '', name, uid = '' } }: KubeObject): { namespace: string; name: string; uid: string } => ({
  namespace,
  name,
  uid,
});

describe('what it reads', () => {
  it('is the pods of its node and all namespaces, as they are and as they change', async () => {
    const { objects, adminApi } = server;
    const shop = await namespace({ 'istio.io/dataplane-mode': 'ambient' });
    await adminApi.patch(
      `/api/v1/namespaces/${shop}`,
      { metadata: { annotations: { 'culvert.dev/existing-connections': 'close', x: 'y' } } },
      'merge',
    );
    const web = await objects.pod({
      ...{ namespace: shop, name: 'web', labels: { app: 'web' }, ips: ['10.1.0.1', 'fd00::1'] },
      annotations: { 'sidecar.istio.io/status': '{}', 'kubectl.kubernetes.io/last-applied-configuration': 'long' },
    });
    await objects.pod({ namespace: shop, name: 'new' });
    await objects.pod({ namespace: shop, name: 'host', hostNetwork: true, ips: ['192.168.0.1'], ports: [{ containerPort: 80 }] });
    await objects.pod({ namespace: shop, name: 'elsewhere', node: 'node2', ips: ['10.2.0.1'] });
    await objects.pod({ namespace: shop, name: 'nowhere', node: '' });
    watching = new Watching();
    await watching.synced();
    expect(watching.pod('web')).toEqual({
      uid: web.metadata.uid,
      namespace: shop,
      name: 'web',
      node: 'node1',
      serviceAccount: 'default',
      labels: { app: 'web' },
      annotations: { 'sidecar.istio.io/status': '{}' },
      ips: ['10.1.0.1', 'fd00::1'],
      containerIds: [],
      hostNetwork: false,
      phase: 'Running',
    });
    expect(watching.pod('new')).toMatchObject({ ips: [], phase: 'Pending' });
    expect(watching.pod('host')).toMatchObject({ hostNetwork: true });
    expect([watching.pod('elsewhere'), watching.pod('nowhere')]).toEqual([undefined, undefined]);
    expect(watching.last?.namespaces.get(shop)).toMatchObject({
      labels: { 'istio.io/dataplane-mode': 'ambient', 'kubernetes.io/metadata.name': shop },
      annotations: { 'culvert.dev/existing-connections': 'close' },
    });

    await adminApi.create(`/api/v1/namespaces/${shop}/pods/nowhere/binding`, {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name: 'nowhere' },
      target: { kind: 'Node', name: 'node1' },
    });
    await until(() => expect(watching.pod('nowhere')).toMatchObject({ node: 'node1' }));
    await objects.podStatus(shop, 'web', { phase: 'Succeeded' }); // without addresses, as kubelet leaves it
    await until(() => expect(watching.pod('web')).toMatchObject({ phase: 'Succeeded', ips: ['10.1.0.1', 'fd00::1'] }));
    await objects.pod({ namespace: shop, name: 'heir', ips: ['10.1.0.1'] });
    await until(() => expect(watching.pod('heir')).toMatchObject({ phase: 'Running', ips: ['10.1.0.1'] }));
    await objects.removePod(shop, 'web');
    await until(() => expect(watching.pod('web')).toBeUndefined());
    const again = await objects.pod({ namespace: shop, name: 'web', ips: ['10.1.0.9'] });
    await until(() => expect(watching.pod('web')).toMatchObject({ uid: again.metadata.uid, ips: ['10.1.0.9'] }));

    // Without a controller that ends it, a namespace that was deleted stays, as it does while pods are in it.
    await adminApi.remove(`/api/v1/namespaces/${shop}`);
    await adminApi.patch(`/api/v1/namespaces/${shop}`, { metadata: { labels: { late: 'yes' } } }, 'merge');
    await until(() => expect(watching.last?.namespaces.get(shop)?.labels).toMatchObject({ late: 'yes' }));
    expect(watching.errors).toEqual([]);
  });

  it('stays while the API is away, said once; at the start it waits', async () => {
    const shop = await namespace();
    relay.cut();
    watching = new Watching();
    await until(() => expect(watching.errors).toHaveLength(1));
    await new Promise((resolve) => setTimeout(resolve, 500)); // some attempts more, of both collections
    expect([watching.errors.length, watching.source.synced()]).toEqual([1, false]);
    relay.join();
    await watching.synced();
    expect(watching.last?.namespaces.has(shop)).toBe(true);

    const known = watching.last;
    await server.kill();
    await until(() => expect(watching.errors).toHaveLength(2));
    expect(watching.last).toBe(known);
    await server.restart();
    await server.objects.pod({ namespace: shop, name: 'late' });
    await until(() => expect(watching.pod('late')).toBeDefined());
    expect(watching.errors).toHaveLength(2);
  });

  it('is in step again after the server forgot the version that it was at', async () => {
    const shop = await namespace();
    const { objects } = server;
    await objects.pod({ namespace: shop, name: 'stays', ips: ['10.1.0.1'] });
    const before = await objects.pod({ namespace: shop, name: 'anew', ips: ['10.1.0.2'] });
    watching = new Watching();
    await watching.synced();
    const stays = watching.pod('stays');
    relay.cut();
    await objects.removePod(shop, 'anew');
    const after = await objects.pod({ namespace: shop, name: 'anew', phase: 'Failed' });
    await server.adminApi.patch(`/api/v1/namespaces/${shop}`, { metadata: { labels: { changed: 'yes' } } }, 'merge');
    await server.compact();
    await server.kill(); // the API server's own memory of versions goes with it
    await server.restart();
    relay.join();
    await until(() => expect(watching.last?.namespaces.get(shop)?.labels).toMatchObject({ changed: 'yes' }));
    await until(() => expect(watching.pod('anew')).toMatchObject({ uid: after.metadata.uid, ips: [] }));
    expect(watching.last?.pods.has(before.metadata.uid!)).toBe(false);
    expect(watching.pod('stays')).toBe(stays);
  });

  it('goes on when the connection breaks in the middle of an object, again and again', async () => {
    const shop = await namespace();
    watching = new Watching();
    await watching.synced();
    const note = 'x'.repeat(200_000); // some packets long
    const names = Array.from({ length: 20 }, (_, index) => `p${index}`);
    for (const name of names) {
      const made = server.objects.pod({ namespace: shop, name, annotations: { note }, ips: ['10.1.0.1'] });
      relay.cut();
      relay.join();
      await made;
    }
    await until(() => expect(names.filter((name) => watching.pod(name)?.ips.length !== 1)).toEqual([]));
  });
});

describe('what it writes', () => {
  it('is the annotation of that very pod', async () => {
    const shop = await namespace();
    const pod = named(await server.objects.pod({ namespace: shop, name: 'a', ips: ['10.1.0.1'] }));
    watching = new Watching();
    await watching.synced();
    const { source } = watching;
    await source.annotate(pod, KEY, 'pending');
    await source.annotate(pod, KEY, 'enabled');
    expect(await annotationOf(shop, 'a')).toBe('enabled');
    await until(() => expect(watching.pod('a')?.annotations).toEqual({ [KEY]: 'enabled' }));
    await source.annotate(pod, KEY, undefined);
    expect(await annotationOf(shop, 'a')).toBeUndefined();

    await server.objects.removePod(shop, 'a');
    await expect(source.annotate(pod, KEY, 'enabled')).rejects.toMatchObject({ code: 'KUBERNETES', status: 404 });
    await source.annotate(pod, KEY, undefined);
    await server.objects.pod({ namespace: shop, name: 'a' });
    await expect(source.annotate(pod, KEY, 'enabled')).rejects.toMatchObject({ code: 'KUBERNETES', status: 422, fields: ['metadata.uid'] });
    await source.annotate(pod, KEY, undefined);
    expect(await annotationOf(shop, 'a')).toBeUndefined();
  });

  it('is set back when somebody else changes it', async () => {
    const shop = await namespace();
    const pod = named(await server.objects.pod({ namespace: shop, name: 'a' }));
    watching = new Watching();
    await watching.synced();
    await watching.source.annotate(pod, KEY, 'enabled');
    await server.adminApi.patch(`/api/v1/namespaces/${shop}/pods/a`, { metadata: { annotations: { [KEY]: null } } }, 'merge');
    await until(async () => expect(await annotationOf(shop, 'a')).toBe('enabled'));
  });

  it('is as the last word, for sixty pods at once that change their minds while the API comes and goes', async () => {
    const shop = await namespace();
    const names = Array.from({ length: 60 }, (_, index) => `p${index}`);
    const pods = await Promise.all(names.map((name) => server.objects.pod({ namespace: shop, name })));
    watching = new Watching();
    await watching.synced();
    const { source } = watching;
    /** as the reconciler does: until it is done */
    const insist = async (pod: KubeObject, value: string | undefined): Promise<void> => {
      for (;;) {
        try {
          await source.annotate(named(pod), KEY, value);
          return;
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    };
    const writing = pods.map(async (pod, index) => {
      await insist(pod, 'enabled');
      if (index % 2 === 0) await insist(pod, undefined);
    });
    relay.cut();
    await new Promise((resolve) => setTimeout(resolve, 100));
    relay.join();
    await Promise.all(writing);
    const values = await Promise.all(names.map((name) => annotationOf(shop, name)));
    expect(values).toEqual(names.map((_, index) => (index % 2 === 0 ? undefined : 'enabled')));
  });

  it('are events that count, and that do not become a storm', async () => {
    const shop = await namespace();
    const pods = (
      await Promise.all(Array.from({ length: 100 }, (_, index) => server.objects.pod({ namespace: shop, name: `p${index}` })))
    ).map(named);
    watching = new Watching();
    await watching.synced();
    const trouble = { type: 'Warning', reason: 'EnrolmentFailed', message: 'add to tunnel: none is connected' } as const;
    const events = async (): Promise<KubeObject[]> => (await server.adminApi.list(`/api/v1/namespaces/${shop}/events`)).items;
    const [first] = pods;
    for (let i = 0; i < 3; i++) watching.source.event?.(first!, trouble);
    await until(async () => expect(await events()).toHaveLength(1));
    const [event] = await events();
    expect(event).toMatchObject({
      ...trouble,
      involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace: shop, name: 'p0', uid: first?.uid },
      source: { component: 'culvert-agent', host: 'node1' },
      count: 3,
    });

    // The agent after this one counts on.
    const next = new Watching();
    next.source.event?.(first!, trouble);
    next.source.event?.(first!, trouble);
    await until(async () => expect((await events())[0]).toMatchObject({ count: 5 }));
    next.close();

    for (const pod of pods) for (let i = 0; i < 10; i++) watching.source.event?.(pod, trouble);
    await until(async () => expect((await events()).length).toBeGreaterThan(20));
    await new Promise((resolve) => setTimeout(resolve, 1000)); // the rest waits its turn
    expect((await events()).length).toBeLessThan(35);
    relay.cut();
    watching.source.event?.(first!, { ...trouble, message: 'x'.repeat(3000) }); // nobody is there to take it
  });
});
