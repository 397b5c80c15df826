import { describe, expect, it } from 'vitest';
import { countChanges, measuredApi, measuredSteps, measuredZds } from '../../../src/agent/metrics/measured.ts';
import { AgentMetrics } from '../../../src/agent/metrics/metrics.ts';
import { Totals } from '../../../src/agent/metrics/totals.ts';
import { CulvertError } from '../../../src/base/errors.ts';
import type { Subject } from '../../../src/enrol/steps.ts';
import type { KubeApi } from '../../../src/kubernetes/api.ts';
import { KubernetesError } from '../../../src/kubernetes/errors.ts';
import type { Tally } from '../../../src/redirect/driver.ts';
import { FLAGS, mesh, pod } from '../../support/enrol-world.ts';

const tally = (cookie: bigint, count: number, reason = 'tunnel'): Tally => ({
  cookie,
  direction: 'outbound',
  verdict: 'redirected',
  reason,
  count,
});

/** Series of one metric, as Prometheus would read them. */
async function series(metrics: AgentMetrics, name: string): Promise<string[]> {
  return (await metrics.registry.metrics()).split('\n').filter((line) => line.startsWith(name) && !line.startsWith('#'));
}

describe('totals', () => {
  const counts = (totals: Totals): Record<string, number> => Object.fromEntries(totals.all().map(({ reason, count }) => [reason, count]));
  it('begin with 0 and never fall, whoever comes and goes', () => {
    const totals = new Totals([tally(1n, 100)]);
    totals.read([tally(1n, 103), tally(2n, 5), tally(2n, 1, 'own')]);
    expect(counts(totals)).toEqual({ tunnel: 8, own: 1 });
    totals.read([tally(1n, 103)]); // 2 has left unseen
    expect(counts(totals)).toEqual({ tunnel: 8, own: 1 });
    totals.read([tally(1n, 110), tally(3n, 2)]);
    expect(counts(totals)).toEqual({ tunnel: 17, own: 1 });
  });
  it('have the last reading of who leaves, once', () => {
    const totals = new Totals([]);
    totals.read([tally(1n, 1)]);
    totals.readLast([tally(1n, 7)]);
    totals.readLast([tally(1n, 7)]); // a removal that is tried again
    totals.read([]);
    expect(counts(totals)).toEqual({ tunnel: 7 });
  });
  it('keep nothing of who has left, though nobody ever asks for them', () => {
    const totals = new Totals([]);
    for (let cookie = 1n; cookie <= 1000n; cookie++) {
      totals.readLast([tally(cookie, 2)]);
      totals.forget(cookie);
    }
    expect(counts(totals)).toEqual({ tunnel: 2000 });
    expect(totals.known).toBe(0);
  });
});

describe('measured parts', () => {
  const subject: Subject = {
    uid: 'u',
    namespace: 's',
    name: 'a',
    serviceAccount: '',
    flags: FLAGS,
    netns: undefined,
    cookie: 7n,
    datapath: 'none',
    deleted: false,
    annotation: undefined,
  };
  const { signal } = new AbortController();

  it('enrolment: from the first attempt until active and annotated, failures by step and code', async () => {
    const metrics = new AgentMetrics('1');
    const left: string[] = [];
    let fail: CulvertError | undefined = new CulvertError('ZDS_NACK', 'no');
    const inner = { adoptListeners: () => undefined, run: () => (fail === undefined ? Promise.resolve() : Promise.reject(fail)) };
    const since = (): number => Date.now() - 3000;
    const steps = measuredSteps(inner, {
      metrics,
      since,
      leaving: (cookie) => left.push(`leaving ${cookie}`),
      left: (cookie) => left.push(`left ${cookie}`),
    });
    await expect(steps.run('prepare', subject, signal)).rejects.toBe(fail);
    fail = undefined;
    for (const action of ['prepare', 'zdsAdd', 'activate', 'annotateEnabled', 'drain', 'annotateOff', 'remove'] as const)
      await steps.run(action, subject, signal);
    await steps.run('annotateEnabled', subject, signal); // after a restart: when it began is not known
    expect(left).toEqual(['leaving 7', 'left 7']);
    expect(await series(metrics, 'culvert_enrolment_step_failures_total')).toEqual([
      'culvert_enrolment_step_failures_total{step="prepare",code="ZDS_NACK"} 1',
    ]);
    const durations = await series(metrics, 'culvert_enrolment_duration_seconds');
    for (const until of ['active', 'annotated']) {
      expect(durations).toContain(`culvert_enrolment_duration_seconds_count{until="${until}"} 1`);
      expect(durations).toContain(`culvert_enrolment_duration_seconds_bucket{le="2.5",until="${until}"} 0`);
      expect(durations).toContain(`culvert_enrolment_duration_seconds_bucket{le="10",until="${until}"} 1`);
    }
  });

  it('ZDS and Kubernetes: by result', async () => {
    const metrics = new AgentMetrics('1');
    const peer = { pid: 1, uid: 0, gid: 0 };
    const nack = new CulvertError('ZDS_NACK', 'no');
    const zds = measuredZds(
      { add: () => Promise.resolve(peer), del: () => Promise.reject(nack), provide: () => undefined, connections: () => [] },
      metrics,
    );
    await zds.add({ uid: 'u', info: { name: '', namespace: '', serviceAccount: '' }, netnsFd: 1 });
    await expect(zds.del('u')).rejects.toBe(nack);
    expect(await series(metrics, 'culvert_zds_requests_total')).toEqual([
      'culvert_zds_requests_total{request="add",result="ack"} 1',
      'culvert_zds_requests_total{request="del",result="ZDS_NACK"} 1',
    ]);
    let closed = 0;
    const api = {
      get: () => Promise.resolve(undefined),
      patch: () => Promise.reject(new KubernetesError('patch', { status: 429 })),
      remove: () => Promise.resolve(),
      list: () => Promise.reject(new Error('socket')),
      close: () => closed++,
    } as unknown as KubeApi & { close(): void };
    const measured = measuredApi(api, metrics);
    await measured.get('/x');
    await expect(measured.patch('/x', {}, 'merge')).rejects.toThrow('patch');
    await measured.remove('/x');
    await expect(measured.list('/x')).rejects.toThrow('socket');
    measured.close();
    expect(closed).toBe(1);
    expect(await series(metrics, 'culvert_kubernetes_requests_total')).toEqual([
      'culvert_kubernetes_requests_total{verb="get",code="404"} 1',
      'culvert_kubernetes_requests_total{verb="patch",code="429"} 1',
      'culvert_kubernetes_requests_total{verb="delete",code="200"} 1',
      'culvert_kubernetes_requests_total{verb="list",code="0"} 1',
    ]);
  });

  it("changes of this node's pods", async () => {
    const metrics = new AgentMetrics('1');
    const changed = countChanges('node1', metrics);
    changed(mesh('ambient', pod('a', '/ns/a'), pod('b', '/ns/b'), pod('far', '/ns/c', { node: 'node2' })));
    changed(mesh('ambient', pod('a', '/ns/a'), pod('b', '/ns/b', { ips: ['10.0.0.9'] })));
    changed(mesh(undefined, pod('b', '/ns/b', { ips: ['10.0.0.9'] })));
    expect(await series(metrics, 'nodeagent_reconcile_events_total')).toEqual([
      'nodeagent_reconcile_events_total{type="add"} 2',
      'nodeagent_reconcile_events_total{type="update"} 1',
      'nodeagent_reconcile_events_total{type="delete"} 1',
    ]);
  });
});
