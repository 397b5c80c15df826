import { afterEach, describe, expect, it, vi } from 'vitest';
import { ACCEPTED, refusal, type PolicyReport, type Verdict } from '../../../../src/control/policy/report.ts';
import { PolicyStatusWriter } from '../../../../src/control/policy/status.ts';
import type { KubeApi, KubeObject } from '../../../../src/kubernetes/api.ts';
import { KubernetesError } from '../../../../src/kubernetes/errors.ts';
import { collectingLogger, type LogLine } from '../../../support/control-plane/logs.ts';

const PATH = '/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/';
const REFUSED = refusal('UnsupportedValue', { faults: ['methods'], effect: 'the rest', sent: true });

/** An API with faults: what the real one does when it is well is tested beside it, in the cluster ring. */
class Api {
  readonly objects = new Map<string, KubeObject>();
  readonly calls: string[] = [];
  /** thrown by the next calls, by "verb path" */
  readonly faults = new Map<string, KubernetesError[]>();
  /** waited for before a call is answered */
  gate: Promise<unknown> = Promise.resolve();

  readonly api: KubeApi = {
    get: (path) => this.#call('get', path, () => (path.endsWith('istio.io') ? group : this.objects.get(path))),
    patch: (path, body) =>
      this.#call('patch', path, () => {
        const object = this.objects.get(path.replace('/status', ''))!;
        return Object.assign(object, { status: (body as KubeObject)['status'] });
      }),
    create: (path, body) => this.#call('create', path, () => body),
    replace: () => Promise.reject(new Error('not used')),
    remove: () => Promise.reject(new Error('not used')),
    list: () => Promise.reject(new Error('not used')),
    watch: () => Promise.reject(new Error('not used')),
  };

  has(name: string, uid = `uid-${name}`): void {
    this.objects.set(PATH + name, { metadata: { name, namespace: 'shop', uid, resourceVersion: '1' } });
  }

  fails(call: string, ...statuses: number[]): void {
    this.faults.set(
      call,
      statuses.map((status) => new KubernetesError(`status ${status}`, { status })),
    );
  }

  conditions(name: string): unknown {
    return (this.objects.get(PATH + name)?.['status'] as { conditions?: unknown } | undefined)?.conditions;
  }

  async #call<T>(verb: string, path: string, answer: () => T): Promise<T> {
    const call = `${verb} ${path.replace(PATH, '')}`;
    this.calls.push(call);
    await this.gate;
    const fault = this.faults.get(call)?.shift();
    if (fault !== undefined) throw fault;
    return answer();
  }
}
const group: KubeObject = { metadata: { name: '' }, versions: [{ version: 'v1' }] };

const report = (name: string, verdict: Verdict | undefined, generation = 1): PolicyReport => ({
  policy: { kind: 'AuthorizationPolicy', namespace: 'shop', name, uid: `uid-${name}`, generation },
  verdict,
});

const open: PolicyStatusWriter[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((writer) => writer.close()));
});

function start(): { api: Api; writer: PolicyStatusWriter; lead: (now: boolean) => void; lines: LogLine[] } {
  const api = new Api();
  let leader = true;
  const { log, lines } = collectingLogger();
  const writer = new PolicyStatusWriter({ api: api.api, isLeader: () => leader, log, firstDelayMs: 1 });
  open.push(writer);
  const lead = (now: boolean): void => {
    leader = now;
    writer.leaderChanged();
  };
  return { api, writer, lead, lines };
}

describe('status writer', () => {
  it('writes one at a time, and of what came meanwhile the last', async () => {
    const { api, writer } = start();
    const gate = Promise.withResolvers<undefined>();
    api.gate = gate.promise;
    for (const name of ['a', 'b']) api.has(name);
    writer.report([report('a', ACCEPTED), report('b', ACCEPTED)]);
    for (let generation = 2; generation <= 50; generation++)
      writer.report([report('b', generation % 2 === 0 ? REFUSED : ACCEPTED, generation)]);
    await vi.waitFor(() => expect(api.calls).toHaveLength(1));
    gate.resolve(undefined);
    await vi.waitFor(() =>
      expect(api.conditions('b')).toMatchObject([{ status: 'True', reason: 'UnsupportedValue', observedGeneration: 50 }]),
    );
    expect(api.calls).toEqual(['get /apis/security.istio.io', 'get a', 'patch a/status', 'get b', 'patch b/status']);
  });

  it('a report that comes while its policy is written is written after it', async () => {
    const { api, writer } = start();
    api.has('a');
    writer.report([report('a', ACCEPTED)]);
    await vi.waitFor(() => expect(api.calls).toContain('get a'));
    writer.report([report('a', REFUSED, 2)]);
    await vi.waitFor(() => expect(api.conditions('a')).toMatchObject([{ reason: 'UnsupportedValue', observedGeneration: 2 }]));
  });

  it.each([409, 429, 500, 0])('status %i is tried again, others do not wait for it', async (status) => {
    const { api, writer } = start();
    for (const name of ['a', 'b']) api.has(name);
    api.fails('patch a/status', status, status);
    writer.report([report('a', ACCEPTED), report('b', ACCEPTED)]);
    await vi.waitFor(() => expect(api.conditions('a')).toMatchObject([{ status: 'True' }]));
    expect(api.conditions('b')).toMatchObject([{ status: 'True' }]);
    expect(api.calls.filter((call) => call === 'patch a/status')).toHaveLength(3);
    expect(api.calls.indexOf('patch b/status')).toBeLessThan(api.calls.lastIndexOf('patch a/status'));
  });

  it('what is refused for good is logged and left', async () => {
    const { api, writer, lines } = start();
    for (const name of ['a', 'b']) api.has(name);
    api.fails('patch a/status', 403);
    writer.report([report('a', ACCEPTED), report('b', ACCEPTED)]);
    await vi.waitFor(() => expect(api.conditions('b')).toMatchObject([{ status: 'True' }]));
    expect(lines).toMatchObject([{ level: 40, policy: 'AuthorizationPolicy shop/a', error: 'status 403' }]);
    expect(api.calls.filter((call) => call === 'patch a/status')).toHaveLength(1);
  });

  it('without leadership nothing is asked or written; with it, everything that was reported', async () => {
    const { api, writer, lead } = start();
    for (const name of ['a', 'b', 'gone']) api.has(name);
    lead(false);
    writer.report([report('a', ACCEPTED), report('b', REFUSED), report('gone', REFUSED)]);
    writer.report([report('gone', undefined)]);
    lead(true);
    await vi.waitFor(() => expect(api.conditions('b')).toBeDefined());
    expect(api.calls).toEqual(['get /apis/security.istio.io', 'get a', 'patch a/status', 'get b', 'patch b/status']);
  });

  it('ends where leadership ends', async () => {
    const { api, writer, lead } = start();
    for (const name of ['a', 'b']) api.has(name);
    const gate = Promise.withResolvers<undefined>();
    api.gate = gate.promise;
    writer.report([report('a', ACCEPTED), report('b', ACCEPTED)]);
    await vi.waitFor(() => expect(api.calls).toHaveLength(1));
    lead(false);
    gate.resolve(undefined);
    await writer.close();
    expect(api.calls).toEqual(['get /apis/security.istio.io', 'get a', 'patch a/status']); // the write under way
  });

  it('an object that is gone, or another of its name, is nobody to write to', async () => {
    const { api, writer } = start();
    api.has('a', 'another');
    api.has('c');
    writer.report([report('a', REFUSED), report('b', REFUSED), report('c', REFUSED)]);
    await vi.waitFor(() => expect(api.conditions('c')).toBeDefined());
    expect(api.calls.filter((call) => !call.startsWith('get'))).toEqual(['patch c/status']);
  });

  it('closing does not wait for the next attempt', async () => {
    const api = new Api();
    api.has('a');
    api.fails('get a', 500);
    const writer = new PolicyStatusWriter({ api: api.api, isLeader: () => true, log: collectingLogger().log, firstDelayMs: 60_000 });
    writer.report([report('a', ACCEPTED)]);
    await vi.waitFor(() => expect(api.calls).toContain('get a'));
    await writer.close();
    expect(api.conditions('a')).toBeUndefined();
  });
});
