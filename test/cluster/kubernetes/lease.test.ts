import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import { connectKubernetes } from '../../../src/kubernetes/client.ts';
import { Lease } from '../../../src/kubernetes/lease.ts';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { relayTo, type Cut } from '../../support/kubernetes/cut.ts';

let server: ApiServer;
let relay: Cut;
beforeAll(async () => {
  server = await startApiServer();
  relay = await relayTo(server.url, server.kubeconfig);
});
afterAll(async () => {
  relay.close();
  await server.close();
});

let leases: Lease[] = [];
let lease = 0;
beforeEach(() => lease++);
afterEach(async () => {
  relay.join();
  await Promise.all(leases.map((candidate) => candidate.close()));
  leases = [];
});

const until = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 20_000, interval: 5 });

function candidate(identity: string, kubeconfig = server.kubeconfig): Lease {
  const made = new Lease({
    api: connectKubernetes({ kubeconfig, fieldManager: identity }),
    namespace: 'default',
    name: `lease-${lease}`,
    identity,
    durationMs: 2_000,
    renewMs: 1_200,
    retryMs: 150,
    log: createLogger('test', 'silent'),
  });
  leases.push(made);
  made.start();
  return made;
}

const record = async (): Promise<Record<string, unknown>> =>
  (await server.adminApi.get(`/apis/coordination.k8s.io/v1/namespaces/default/leases/lease-${lease}`))!['spec'] as Record<string, unknown>;

describe('lease', () => {
  it('has one leader among several that begin at once, and keeps it', async () => {
    const all = ['a', 'b', 'c'].map((identity) => candidate(identity));
    await until(() => expect(all.filter((one) => one.isLeader())).toHaveLength(1));
    const leader = all.find((one) => one.isLeader());
    const { renewTime } = await record();
    await vi.waitFor(async () => expect((await record())['renewTime']).not.toBe(renewTime), { timeout: 20_000, interval: 20 });
    expect(all.filter((one) => one.isLeader())).toEqual([leader]);
  });

  it('is given back by a leader that closes, and taken at once', async () => {
    const first = candidate('a');
    await until(() => expect(first.isLeader()).toBe(true));
    const told: boolean[] = [];
    first.onChange((leads) => told.push(leads));
    await first.close();
    expect([first.isLeader(), told, (await record())['holderIdentity']]).toEqual([false, [false], '']);
    const second = candidate('b');
    await until(() => expect(second.isLeader()).toBe(true));
    expect(await record()).toMatchObject({ holderIdentity: 'b', leaseTransitions: 1 });
  });

  it('is lost by a leader that cannot reach the server before another takes it', async () => {
    const first = candidate('a', relay.kubeconfig);
    await until(() => expect(first.isLeader()).toBe(true));
    const second = candidate('b');
    const order: string[] = [];
    first.onChange((leads) => order.push(`a ${leads}`));
    second.onChange((leads) => order.push(`b ${leads} while a ${first.isLeader()}`));
    relay.cut();
    await until(() => expect(second.isLeader()).toBe(true));
    expect(order).toEqual(['a false', 'b true while a false']);
    relay.join();
    await second.close();
    await until(() => expect(first.isLeader()).toBe(true));
  });

  it('refuses times under which two could lead', () => {
    const options = { api: server.adminApi, namespace: 'default', name: 'x', identity: 'a', log: createLogger('test', 'silent') };
    expect(() => new Lease({ ...options, durationMs: 1_000, renewMs: 1_000 })).toThrow('retry < renew < duration');
  });
});
