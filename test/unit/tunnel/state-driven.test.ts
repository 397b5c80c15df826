/** What the tunnel does when the state changes: certificates ahead of time, notices about policies, questions to the feed. */
import { afterEach, describe, expect, it } from 'vitest';
import { Action, Scope } from '../../../src/proto/security_pb.js';
import { StateStore } from '../../../src/state/store.ts';
import { Certificates } from '../../../src/tunnel/certificates.ts';
import { demanding } from '../../../src/tunnel/demand.ts';
import { dumpPolicy } from '../../../src/tunnel/policy-dump.ts';
import { Prefetch } from '../../../src/tunnel/prefetch.ts';
import { UnenforcedPolicies } from '../../../src/tunnel/unenforced-policies.ts';
import { collectingLogger } from '../../support/control-plane/logs.ts';
import { delta, policy, service, workload } from '../../support/state.ts';
import { eventually, listenApp, LoopbackMesh, readAll } from '../../support/tunnel/loopback.ts';

describe('prefetch', () => {
  it('lets nothing go that a successor of the same moment needs', async () => {
    const certificates = new Certificates({ sign: () => Promise.reject(new Error('away')) }, collectingLogger().log);
    const state = new StateStore({ node: 'node1' });
    const prefetch = new Prefetch(state, certificates);
    state.apply(delta({ workloads: [workload('web', '10.0.0.1', { uid: 'first' })] }));
    await eventually(() => certificates.list()[0]?.state === 'Unavailable');
    state.apply(delta({ workloads: [workload('web', '10.0.0.2', { uid: 'second' })], removed: { workloads: ['first'] } }));
    expect(certificates.list()).toMatchObject([{ state: 'Unavailable' }]); // the same one, not begun anew
    prefetch.close();
  });

  const asked: string[] = [];
  const certificates = new Certificates(
    { sign: ({ identity }) => (asked.push(identity.replace(/.*\//, '')), new Promise<never>(() => undefined)) },
    collectingLogger().log,
  );
  const state = new StateStore({ node: 'node1' });
  const prefetch = new Prefetch(state, certificates);
  const held = () => certificates.list().map(({ identity }) => identity.replace(/.*\//, '')); // prettier-ignore

  it('is for captured workloads of this node, for as long as one of an identity is there', () => {
    const web = (name: string, change = {}) => workload(name, '10.0.0.1', { serviceAccount: 'web', ...change });
    state.apply(
      delta({
        workloads: [web('a'), web('b'), workload('far', '10.0.0.2', { node: 'node2' }), workload('plain', '10.0.0.3', { protocol: 'TCP' })],
      }),
    );
    expect(held()).toEqual(['web']);
    state.apply(delta({ removed: { workloads: ['uid-a'] } }));
    expect(held()).toEqual(['web']);
    state.apply(delta({ workloads: [web('b', { protocol: 'TCP' })] }));
    expect(held()).toEqual([]);
    state.apply(delta({ workloads: [workload('plain', '10.0.0.3')] }));
    expect(held()).toEqual(['plain']);
    state.apply(delta({ workloads: [workload('plain', '10.0.0.3', { serviceAccount: 'renamed' })] }));
    expect(held()).toEqual(['renamed']);
    prefetch.close();
    expect(held()).toEqual([]);
  });
});

describe('policies', () => {
  it('are warned about once each, when they first apply to a workload of this node', () => {
    const state = new StateStore({ node: 'node1' });
    const { log, lines } = collectingLogger();
    const watch = new UnenforcedPolicies(state, log);
    const said = () => lines.splice(0).map(({ msg, level }) => `${String(level)} ${String(msg)}`); // prettier-ignore
    const text = (key: string) => `40 policy ${key} is known but not enforced by this version`;
    const all = [
      policy('istio-system/all', { scope: Scope.GLOBAL }),
      policy('shop/deny', { scope: Scope.NAMESPACE, action: Action.DENY }),
      policy('other/deny', { scope: Scope.NAMESPACE }),
      policy('shop/selected', { scope: Scope.WORKLOAD_SELECTOR }),
      policy('shop/dry', { scope: Scope.NAMESPACE, dryRun: true }),
    ];
    state.apply(delta({ policies: all, workloads: [workload('far', '10.0.0.1', { node: 'node2', policies: ['shop/selected'] })] }));
    expect(said()).toEqual([]);
    state.apply(delta({ workloads: [workload('a', '10.0.0.2')] }));
    expect(said()).toEqual([text('istio-system/all'), text('shop/deny')]);
    state.apply(delta({ workloads: [workload('b', '10.0.0.3')], policies: [policy('shop/deny', { scope: Scope.NAMESPACE })] }));
    expect(said()).toEqual([]);
    state.apply(delta({ workloads: [workload('b', '10.0.0.3', { policies: ['shop/selected'] })] }));
    expect(said()).toEqual([text('shop/selected')]);
    state.apply(delta({ removed: { policies: ['shop/deny'] } }));
    state.apply(delta({ policies: [policy('shop/deny', { scope: Scope.NAMESPACE })] }));
    expect(said()).toEqual([text('shop/deny')]);
    watch.close();
    state.apply(delta({ policies: [policy('shop/late', { scope: Scope.NAMESPACE })] }));
    expect(said()).toEqual([]);
  });

  it('are dumped in the words of ztunnel', () => {
    const { authorization } = policy('shop/deny', { scope: Scope.WORKLOAD_SELECTOR, action: Action.DENY });
    authorization.rules = policyRules();
    expect(dumpPolicy({ key: 'shop/deny', authorization })).toEqual({
      name: 'deny',
      namespace: 'shop',
      scope: 'WorkloadSelector',
      action: 'Deny',
      dryRun: false,
      rules: [
        [
          [
            {
              principals: [{ Exact: 'cluster.local/ns/shop/sa/a' }, { Presence: [] }],
              notNamespaces: [{ Prefix: 'kube-' }, { Suffix: '-test' }],
              sourceIps: ['10.0.0.0/8', 'fd00::/16'],
              destinationPorts: [80],
              serviceAccounts: [{ namespace: 'shop', serviceAccount: 'a' }],
            },
          ],
          [],
        ],
      ],
    });
  });
});

function policyRules() {
  const match = {
    principals: [
      { matchType: { case: 'exact' as const, value: 'cluster.local/ns/shop/sa/a' } },
      { matchType: { case: 'presence' as const, value: {} } },
    ],
    notNamespaces: [{ matchType: { case: 'prefix' as const, value: 'kube-' } }, { matchType: { case: 'suffix' as const, value: '-test' } }],
    sourceIps: [
      { address: Uint8Array.of(10, 0, 0, 0), length: 8 },
      { address: Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), length: 16 },
    ],
    destinationPorts: [80],
    serviceAccounts: [{ namespace: 'shop', serviceAccount: 'a' }],
  };
  return policy('x/y', { rules: [{ clauses: [{ matches: [match] }, { matches: [] }] }] as never }).authorization.rules;
}

describe('on demand', () => {
  let mesh: LoopbackMesh | undefined;
  afterEach(async () => {
    await mesh?.close();
  });

  it('asks for addresses that nobody knows, and for no others', async () => {
    const state = new StateStore();
    state.apply(delta({ workloads: [workload('a', '10.0.0.1')], services: [service()] }));
    const asked: string[] = [];
    const know = demanding({ demand: (ip) => (asked.push(ip), Promise.resolve()) }, state);
    for (const ip of ['10.0.0.1', '10.96.0.1', '10.0.0.2']) await know(ip, 'shop');
    expect(asked).toEqual(['10.0.0.2']);
    await demanding({}, state)('10.0.0.3', 'shop');
  });

  it('does not touch the netns of a pod that left while it asked: its descriptor may be of another by then', async () => {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    let asked = 0;
    mesh = await LoopbackMesh.create([workload('client', '127.82.1.1')], [], { demand: () => (asked++, promise) });
    const { proxy, sockets } = mesh.pods.get('client')!;
    await mesh.dial('client', { ip: '127.82.2.1', port: 8080 });
    await eventually(() => asked === 1);
    await proxy.stop();
    resolve(undefined);
    await eventually(() => mesh?.access.lines.find(({ message, error }) => message === 'connection complete' && error !== undefined));
    expect(sockets.connects).toEqual([]);
  });

  it('routes by what came in answer', async () => {
    const web = workload('web', '127.82.2.1');
    const made: LoopbackMesh = await LoopbackMesh.create([workload('client', '127.82.1.1'), web], [], {
      demand: async (ip) => {
        if (ip === '127.82.2.1') made.store.apply(delta({ workloads: [web] }));
      },
    });
    mesh = made;
    made.store.apply(delta({ removed: { workloads: [web.uid] } }));
    const app = await listenApp('127.82.2.1', 8080, (socket) => socket.end('hello'));
    const socket = await made.dial('client', { ip: '127.82.2.1', port: 8080 });
    socket.end();
    expect(await readAll(socket)).toBe('hello');
    app.close();
    const outbound = await eventually(() =>
      made.access.lines.find(({ direction, message }) => direction === 'outbound' && message === 'connection complete'),
    );
    expect(outbound).toMatchObject({ 'dst.identity': 'spiffe://cluster.local/ns/shop/sa/web', 'dst.hbone_addr': '127.82.2.1:8080' });
  });
});
