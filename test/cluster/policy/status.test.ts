/** What becomes of policies, read on the policies: a real API server, the driver that watches it, the translation, the writer. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createKubernetesCluster } from '../../../src/control/kubernetes/cluster.ts';
import { Policies } from '../../../src/control/policy/policies.ts';
import { PolicyStatusWriter } from '../../../src/control/policy/status.ts';
import type { KubeApi, KubeObject } from '../../../src/kubernetes/api.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { collectingLogger } from '../../support/control-plane/logs.ts';
import { policiesPath, type PolicyKind } from '../../support/kubernetes/crds.ts';
import { until } from '../../support/kubernetes/until.ts';

let cluster: ApiServer;
let namespace: string;
let count = 0;
const open: { close(): unknown }[] = [];

beforeAll(async () => {
  cluster = await startApiServer();
  await cluster.applyCrds();
});
afterAll(() => cluster.close());
beforeEach(async () => {
  namespace = `shop-${String(++count)}`;
  await cluster.createNamespace(namespace);
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

interface Replica {
  /** "verb path" of everything that was not only read */
  writes: string[];
  /** paths of what was read by name */
  reads: string[];
  /** names of policies that it was told of */
  told: string[];
  lead(now: boolean): void;
  /** Once it has looked at this policy, and ended. */
  done(kind: PolicyKind, name: string): Promise<void>;
}

function replica(leads: boolean): Replica {
  const real = connectKubernetes({ kubeconfig: cluster.kubeconfig, fieldManager: 'culvert-control' });
  const writes: string[] = [];
  const reads: string[] = [];
  const told: string[] = [];
  const api: KubeApi = {
    ...real,
    get: async (path) => {
      const object = await real.get(path);
      reads.push(path);
      return object;
    },
    patch: (path, ...rest) => {
      writes.push(`patch ${path}`);
      return real.patch(path, ...rest);
    },
    create: (path, body) => {
      writes.push(`create ${path}`);
      return real.create(path, body);
    },
  };
  const { log } = collectingLogger();
  let leader = leads;
  const writer = new PolicyStatusWriter({ api, isLeader: () => leader, log });
  const policies = new Policies({ rootNamespace: 'istio-system', trustDomain: 'cluster.local', log });
  const watch = createKubernetesCluster({ api: real, log }).watch({
    onChanges: (changes) => {
      // Only what this test made: the server is shared by all of them.
      const reports = policies.apply(changes).reports.filter(({ policy }) => policy.namespace === namespace);
      writer.report(reports);
      told.push(...reports.map(({ policy }) => policy.name));
    },
    onSynced: () => undefined,
    onError: () => undefined,
  });
  const close = async (): Promise<void> => {
    watch.close();
    await writer.close();
  };
  open.push({ close });
  return {
    writes,
    reads,
    told,
    lead(now) {
      leader = now;
      writer.leaderChanged();
    },
    async done(kind, name) {
      await until(`${name} to be looked at`, () => reads.includes(`${policiesPath(kind, namespace)}/${name}`));
      await close();
    },
  };
}

async function create(kind: PolicyKind, name: string, spec: object): Promise<KubeObject> {
  return cluster.adminApi.create(policiesPath(kind, namespace), { apiVersion: 'security.istio.io/v1', kind, metadata: { name }, spec });
}

interface Condition {
  type: string;
  status: string;
  reason: string;
  message: string;
  observedGeneration: number;
  lastTransitionTime: string;
}

async function conditions(kind: PolicyKind, name: string): Promise<Condition[]> {
  const object = await cluster.adminApi.get(`${policiesPath(kind, namespace)}/${name}`);
  return (object?.['status'] as { conditions?: Condition[] } | undefined)?.conditions ?? [];
}

/** Waits for the condition of the policy's present generation. */
async function condition(kind: PolicyKind, name: string, generation = 1): Promise<Condition> {
  let found: Condition | undefined;
  await until(`condition of generation ${generation} on ${name}`, async () => {
    found = (await conditions(kind, name)).find((each) => each.type === 'ZtunnelAccepted');
    return found?.observedGeneration === generation;
  });
  return found!;
}

const METHODS = { rules: [{ to: [{ operation: { methods: ['GET'], ports: ['80'] } }] }] };
const PORTS = { rules: [{ to: [{ operation: { ports: ['80'] } }] }] };

describe('status of policies', () => {
  it('says what is not enforced, and no more once it is corrected', async () => {
    replica(true);
    const path = `${policiesPath('AuthorizationPolicy', namespace)}/web`;
    await create('AuthorizationPolicy', 'web', METHODS);
    const first = await condition('AuthorizationPolicy', 'web');
    expect(first).toMatchObject({ status: 'True', reason: 'UnsupportedValue' });
    expect(first.message).toContain('rules[0].to[0].operation.methods');
    await cluster.adminApi.patch(path, { spec: { rules: [{ to: [{ operation: { ports: ['0'] } }] }] } }, 'merge');
    const second = await condition('AuthorizationPolicy', 'web', 2);
    expect(second).toMatchObject({ status: 'False', reason: 'Invalid' });
    expect(second.message).toContain('found "0"');
    await cluster.adminApi.patch(path, { spec: PORTS }, 'merge');
    const third = await condition('AuthorizationPolicy', 'web', 3);
    expect(third).toMatchObject({ status: 'True', reason: 'Accepted' });
    await cluster.adminApi.patch(path, { spec: METHODS }, 'merge');
    const fourth = await condition('AuthorizationPolicy', 'web', 4);
    expect(fourth).toMatchObject({ reason: 'UnsupportedValue', lastTransitionTime: third.lastTransitionTime }); // no transition: both True
  });

  it('is written for PeerAuthentication, too, and beside the conditions of others', async () => {
    const spec = { selector: { matchLabels: { app: 'web' } }, portLevelMtls: { '8080': { mode: 'DISABLE' } } };
    await create('PeerAuthentication', 'web', spec);
    const theirs = { type: 'Theirs', status: 'True', reason: 'Since', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' };
    await cluster.adminApi.patch(
      `${policiesPath('PeerAuthentication', namespace)}/web/status`,
      { status: { conditions: [theirs], more: 'kept' } },
      'merge',
    );
    replica(true);
    expect(await condition('PeerAuthentication', 'web')).toMatchObject({ status: 'True', reason: 'UnsupportedValue' });
    const object = await cluster.adminApi.get(`${policiesPath('PeerAuthentication', namespace)}/web`);
    expect(object?.['status']).toMatchObject({ conditions: [theirs, { type: 'ZtunnelAccepted' }], more: 'kept' });
  });

  it('is not written twice, nor by who does not lead', async () => {
    await create('AuthorizationPolicy', 'web', METHODS);
    const first = replica(false);
    const leading = replica(true);
    await condition('AuthorizationPolicy', 'web');
    expect(leading.writes).toEqual([`patch ${policiesPath('AuthorizationPolicy', namespace)}/web/status`]);
    const before = await cluster.adminApi.get(`${policiesPath('AuthorizationPolicy', namespace)}/web`);
    const second = replica(true);
    await second.done('AuthorizationPolicy', 'web');
    expect(second.writes).toEqual([]);
    await until('the other one to know', () => first.told.includes('web'));
    expect(first.reads).toEqual([]);
    expect(await cluster.adminApi.get(`${policiesPath('AuthorizationPolicy', namespace)}/web`)).toEqual(before);
    first.lead(true); // it knew all the time
    await first.done('AuthorizationPolicy', 'web');
    expect(first.writes).toEqual([]);
  });

  it('survives a burst: of a policy that changes all the time the last is told', async () => {
    const { writes } = replica(true);
    await create('AuthorizationPolicy', 'web', METHODS);
    const path = `${policiesPath('AuthorizationPolicy', namespace)}/web`;
    for (let port = 1; port <= 30; port++)
      await cluster.adminApi.patch(path, { spec: { rules: [{ to: [{ operation: { ports: [String(port)] } }] }] } }, 'merge');
    expect(await condition('AuthorizationPolicy', 'web', 31)).toMatchObject({ status: 'True', reason: 'Accepted' });
    expect(writes.length).toBeLessThanOrEqual(31);
  });
});

describe('a kind without status', () => {
  const definition = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/peerauthentications.security.istio.io';
  const events = async (): Promise<KubeObject[]> => (await cluster.adminApi.list(`/api/v1/namespaces/${namespace}/events`)).items;

  it('has an Event of what is not enforced, once', async () => {
    const remove = [0, 1].map((version) => ({ op: 'remove', path: `/spec/versions/${version}/subresources` }));
    await cluster.adminApi.patch(definition, remove, 'json');
    await create('PeerAuthentication', 'probe', {});
    const probe = `${policiesPath('PeerAuthentication', namespace)}/probe`;
    await until('the status to be no resource any more', async () => {
      try {
        await cluster.adminApi.patch(`${probe}/status`, { status: {} }, 'merge');
        return false;
      } catch {
        return true;
      }
    });
    const policy = await create('PeerAuthentication', 'web', { mtls: { mode: 'DISABLE' } });
    replica(true);
    await until('an Event', async () => (await events()).length > 0);
    expect(await events()).toMatchObject([
      {
        ...{ type: 'Warning', reason: 'UnsupportedValue', source: { component: 'culvert-control' } },
        involvedObject: { kind: 'PeerAuthentication', namespace, name: 'web', uid: policy.metadata.uid },
        message: expect.stringContaining('mtls.mode: DISABLE') as string,
      },
    ]);
    const again = replica(true);
    await again.done('PeerAuthentication', 'web');
    expect(await events()).toHaveLength(1);
    expect(again.writes).toContain(`create /api/v1/namespaces/${namespace}/events`); // refused as already there
  });
});
