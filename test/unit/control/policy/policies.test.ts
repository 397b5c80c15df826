import fc from 'fast-check';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import type { ObjectChange, PolicyObject } from '../../../../src/control/cluster.ts';
import { authorizationResource, Policies } from '../../../../src/control/policy/policies.ts';
import { ResourceStore } from '../../../../src/control/resource-store.ts';
import { AuthorizationSchema } from '../../../../src/proto/security_pb.js';
import { collectingLogger } from '../../../support/control-plane/logs.ts';
import { authorizationPolicy, came, MESH, peerAuthentication, ROOT, Served, went } from './cluster.ts';
import { permits, type Connection } from './enforce.ts';

const select = (labels: Record<string, string>, spec: object = {}): object => ({ selector: { matchLabels: labels }, rules: [{}], ...spec });

describe('selection', () => {
  it('is by namespace and labels, and by labels alone for the root namespace', () => {
    const made = new Served();
    const change = made.apply(
      came(authorizationPolicy(select({ app: 'web' }), { name: 'b' })),
      came(authorizationPolicy(select({ app: 'web', tier: 'x' }), { name: 'a' })),
      came(authorizationPolicy(select({ app: 'web' }), { name: 'elsewhere', namespace: 'bank' })),
      came(authorizationPolicy(select({ tier: 'x' }), { name: 'mesh', namespace: ROOT })),
      came(authorizationPolicy({ rules: [{}] }, { name: 'all' })),
    );
    expect(change.affected).toBe('all');
    expect(made.policies.selecting('shop', { app: 'web' })).toEqual(['shop/b']);
    expect(made.policies.selecting('shop', { app: 'web', tier: 'x', more: 'y' })).toEqual([`${ROOT}/mesh`, 'shop/a', 'shop/b']);
    expect(made.policies.selecting('bank', { app: 'web' })).toEqual(['bank/elsewhere']);
    expect(made.policies.selecting(ROOT, { tier: 'x' })).toEqual([`${ROOT}/mesh`]);
    expect(made.policies.selecting('shop', {})).toEqual([]);
  });

  it('is affected by selectors that come, change and go, not by rules', () => {
    const made = new Served();
    const affected = (change: ObjectChange): unknown => made.apply(change).affected;
    const policy = authorizationPolicy(select({ app: 'web' }));
    expect(affected(came(policy))).toEqual(new Set(['shop']));
    expect(affected(came({ ...policy, generation: 2, spec: select({ app: 'web' }, { action: 'DENY' }) }))).toEqual(new Set());
    expect(affected(came({ ...policy, generation: 3, spec: select({ app: 'api' }) }))).toEqual(new Set(['shop']));
    expect(made.policies.selecting('shop', { app: 'web' })).toEqual([]);
    expect(affected(came({ ...policy, generation: 4, spec: select({ app: 'api' }, { action: 'AUDIT' }) }))).toEqual(new Set(['shop']));
    expect(made.policies.selecting('shop', { app: 'api' })).toEqual([]);
    expect(affected(went(policy))).toEqual(new Set());
  });

  it('compares a workload with the few policies that share a label with it', () => {
    const policies = new Policies(MESH);
    policies.apply(Array.from({ length: 1000 }, (_, i) => came(authorizationPolicy(select({ app: `app-${i}` }), { name: `p${i}` }))));
    let found = 0;
    for (let pod = 0; pod < 10_000; pod++) found += policies.selecting('shop', { app: `app-${pod % 1000}`, version: 'v1' }).length;
    expect(found).toBe(10_000); // ten million comparisons would not end within the ring's deadline
  });
});

describe('reports', () => {
  it('come with every change of a policy, and with its end', () => {
    const { policies } = new Served();
    const policy = authorizationPolicy({ action: 'AUDIT' });
    const reports = (change: ObjectChange): unknown[] =>
      policies.apply([change]).reports.map(({ policy: { generation }, verdict }) => [generation, verdict?.ok]);
    expect(reports(came(policy))).toEqual([[1, false]]);
    expect(reports(came(policy))).toEqual([]);
    expect(reports(came({ ...policy, generation: 2 }))).toEqual([[2, false]]);
    expect(reports(came({ ...policy, uid: 'another', generation: 2 }))).toEqual([[2, false]]);
    expect(reports(came({ ...policy, uid: 'another', generation: 3, spec: {} }))).toEqual([[3, true]]);
    expect(reports(went(policy))).toEqual([[3, undefined]]);
    expect(reports(went(policy))).toEqual([]);
    expect(policies.apply([{ kind: 'Namespace', key: 'shop', object: undefined }])).toEqual({
      set: [],
      removed: [],
      affected: new Set(),
      reports: [],
    });
  });

  it('are logged once for each thing said', () => {
    const { log, lines } = collectingLogger();
    const policies = new Policies({ ...MESH, log });
    const policy = authorizationPolicy({ rules: [{ to: [{ operation: { ports: ['0'] } }] }] });
    for (const generation of [1, 1, 2]) policies.apply([came({ ...policy, generation })]);
    expect(lines).toMatchObject([
      {
        level: 40,
        code: 'POLICY_INVALID',
        policy: 'AuthorizationPolicy shop/policy',
        faults: [expect.stringContaining('rules[0].to[0].operation.ports[0]')],
      },
    ]);
    policies.apply([came({ ...policy, generation: 3, spec: {} })]);
    policies.apply([came({ ...policy, generation: 4, spec: { rules: [] } })]);
    expect(lines.slice(1)).toMatchObject([{ level: 30, policy: 'AuthorizationPolicy shop/policy' }]);
  });
});

it('resources are named as xDS names them', () => {
  const made = new Served();
  const { set, removed } = made.apply(came(authorizationPolicy({ rules: [{}] })), came(peerAuthentication({ mtls: { mode: 'STRICT' } })));
  const store = new ResourceStore();
  store.apply('authorization', set.map(authorizationResource), removed);
  expect([...store.all('authorization')].map(({ name }) => name).sort()).toEqual([`${ROOT}/istio_converted_static_strict`, 'shop/policy']);
  expect(fromBinary(AuthorizationSchema, authorizationResource(set[0]!).message)).toEqual(set[0]);
});

/** Few values of each kind, so that rules and connections meet. */
const name = fc.constantFrom('a', 'b', 'a*', '*a', '*');
const principal = fc.constantFrom('cluster.local/ns/a/sa/b', 'cluster.local/ns/a/*', '*/sa/a', '*');
const block = fc.constantFrom('10.0.0.1', '10.0.0.0/8', 'fd00::/8', '::/0', '0.0.0.0/0');
const portText = fc.constantFrom('80', '90');
const some = <T>(values: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(values, { minLength: 1, maxLength: 2 });
/** One or two of the fields: with more hardly any connection would meet a rule. */
const record = (model: Record<string, fc.Arbitrary<unknown>>): fc.Arbitrary<object> =>
  fc
    .subarray(Object.keys(model), { minLength: 1, maxLength: 2 })
    .chain((keys) => fc.record(Object.fromEntries(keys.map((key) => [key, model[key]!]))) as fc.Arbitrary<object>);
const source = record({
  ...{ principals: some(principal), notPrincipals: some(principal), namespaces: some(name), notNamespaces: some(name) },
  ...{ serviceAccounts: some(fc.constantFrom('a', 'b/a')), notServiceAccounts: some(fc.constantFrom('a', 'b/a')) },
  ...{ ipBlocks: some(block), notIpBlocks: some(block) },
});
const operation = record({ ports: some(portText), notPorts: some(portText) });
const condition = fc.oneof(
  ...(
    [
      ['source.ip', block],
      ['source.namespace', name],
      ['source.principal', principal],
      ['source.serviceAccount', fc.constantFrom('a', 'b/a')],
      ['destination.port', portText],
    ] as const
  ).map(([key, values]) => record({ values: some<string>(values), notValues: some<string>(values) }).map((each) => ({ key, ...each }))),
);
const rule: fc.Arbitrary<{ when?: unknown[] }> = record({
  from: some(source.map((each) => ({ source: each }))),
  to: some(operation.map((each) => ({ operation: each }))),
  when: some(condition),
});
const labels = fc.constantFrom<Record<string, string>[]>({ app: 'web' }, { tier: 'x' }, { app: 'web', tier: 'x' });
const selector = labels.map((matchLabels) => ({ matchLabels }));
const authorization = fc.record(
  { action: fc.constantFrom('ALLOW', 'DENY'), rules: fc.array(rule, { minLength: 1, maxLength: 3 }), selector },
  { requiredKeys: ['rules'] },
);
const connection: fc.Arbitrary<Connection> = fc.record(
  {
    source: fc.constantFrom('10.0.0.1', '192.168.0.1', 'fd00::1'),
    destination: fc.constantFrom('10.0.0.2', 'fd00::2'),
    port: fc.constantFrom(80, 90, 443),
    peer: fc.record({
      trustDomain: fc.constantFrom('cluster.local', 'td'),
      namespace: fc.constantFrom('a', 'b', 'ab'),
      account: fc.constantFrom('a', 'b'),
    }),
  },
  { requiredKeys: ['source', 'destination', 'port'] },
);

/** Unreadable wherever it stands. */
const junk = fc.constantFrom<unknown[]>(5, true, 'x y*z*', [[5]], { bogus: 1 });

/** The value with one of its parts replaced. */
function corrupted(value: unknown, bad: unknown, choose: () => number): unknown {
  const keys = typeof value === 'object' && value !== null ? Object.keys(value) : [];
  if (keys.length === 0 || choose() < 0.2) return bad;
  const key = keys[Math.floor(choose() * keys.length)]!;
  const copy = (Array.isArray(value) ? [...(value as unknown[])] : { ...(value as object) }) as Record<string, unknown>;
  copy[key] = corrupted(copy[key], bad, choose);
  return copy;
}

describe('properties', () => {
  const decide = (spec: unknown, podLabels: Record<string, string>, call: Connection): { permitted: boolean; ok: boolean | undefined } => {
    const made = new Served();
    const { reports } = made.apply(came(authorizationPolicy(spec)));
    const policies = made.policies.selecting('shop', podLabels);
    return { permitted: permits(made.resources.values(), { namespace: 'shop', policies }, call), ok: reports[0]?.verdict?.ok };
  };

  it('a policy with a part that cannot be read is said to be so, and never permits more than without the mistake', () => {
    let closed = 0;
    fc.assert(
      fc.property(
        authorization,
        junk,
        fc.infiniteStream(fc.nat(9999).map((each) => each / 10_000)),
        labels,
        connection,
        (spec, bad, stream, pod, call) => {
          const broken = decide(
            corrupted(spec, bad, () => stream.next().value as number),
            pod,
            call,
          );
          const whole = decide(spec, pod, call);
          expect(whole.ok).toBe(true);
          expect(broken.ok).toBe(false);
          if (whole.permitted && !broken.permitted) closed++;
          expect(whole.permitted || !broken.permitted).toBe(true);
        },
      ),
      { numRuns: 1000 },
    );
    expect(closed).toBeGreaterThan(0); // else the calls never met the rules
  });

  it('what needs HTTP never makes an ALLOW permit more', () => {
    fc.assert(
      fc.property(authorization, fc.nat(2), labels, connection, ({ action: _, ...spec }, index, pod, call) => {
        const rules = spec.rules.map((each, at) =>
          at === index % spec.rules.length ? { ...each, when: [...(each.when ?? []), { key: 'request.headers[x]', values: ['y'] }] } : each,
        );
        const { permitted, ok } = decide({ ...spec, rules }, pod, call);
        expect(ok).toBe(false);
        expect(!permitted || decide(spec, pod, call).permitted).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it('no spec throws, and what is made of it can be sent', () => {
    const text = fc.oneof(
      name,
      principal,
      block,
      portText,
      fc.constantFrom('ALLOW', 'DENY', 'STRICT', 'source.ip', 'request.auth.principal'),
      fc.string(),
    );
    const keys = fc.constantFrom(
      ...[
        'selector',
        'matchLabels',
        'action',
        'rules',
        'from',
        'source',
        'to',
        'operation',
        'when',
        'key',
        'values',
        'principals',
        'ports',
      ],
      ...['ipBlocks', 'mtls', 'mode', 'portLevelMtls', '80', 'targetRefs', '__proto__', 'constructor', 'x'],
    );
    const { any } = fc.letrec<{ any: unknown }>((tie) => ({
      any: fc.oneof(
        { maxDepth: 7, withCrossShrink: true },
        text,
        fc.jsonValue(),
        fc.array(tie('any'), { maxLength: 3 }),
        fc.dictionary(keys, tie('any'), { maxKeys: 4 }),
      ),
    }));
    fc.assert(
      fc.property(any, fc.boolean(), fc.constantFrom('shop', ROOT), (spec, peer, namespace) => {
        const made = new Served();
        const policy = (peer ? peerAuthentication : authorizationPolicy)(spec, { namespace });
        const { set, reports } = made.apply(came(policy));
        expect(reports).toHaveLength(1);
        for (const each of set) expect(fromBinary(AuthorizationSchema, toBinary(AuthorizationSchema, each))).toEqual(each);
        made.policies.selecting('shop', { app: 'web' });
        made.apply(went(policy));
        expect(made.resources.size).toBe(0);
      }),
      { numRuns: 1000 },
    );
  });

  it('what is served and selected depends on the objects alone, and nothing is affected unsaid', () => {
    const modes = fc.constantFrom('STRICT', 'PERMISSIVE', 'DISABLE', 'UNSET', 'junk');
    const mtls = modes.map((each) => ({ mode: each }));
    const peers = fc.record(
      { selector, mtls, portLevelMtls: fc.dictionary(portText, mtls, { minKeys: 1, maxKeys: 2 }) },
      { requiredKeys: [] },
    );
    const step = fc.record({
      kind: fc.constantFrom('AuthorizationPolicy' as const, 'PeerAuthentication' as const),
      namespace: fc.constantFrom('shop', 'bank', ROOT),
      name: fc.constantFrom('p', 'q', 'r'),
      gone: fc.boolean(),
      created: fc.nat(3),
      spec: fc.record({ authorization, peers }),
    });
    const pods = ['shop', 'bank', 'empty', ROOT].flatMap((namespace) =>
      [{}, { app: 'web' }, { tier: 'x' }, { app: 'web', tier: 'x' }].map((each) => [namespace, each] as const),
    );
    const selected = ({ policies }: Served): string[][] => pods.map(([namespace, each]) => policies.selecting(namespace, each));
    fc.assert(
      fc.property(fc.array(fc.array(step, { minLength: 1, maxLength: 3 }), { maxLength: 8 }), (batches) => {
        const made = new Served();
        const objects = new Map<string, PolicyObject>();
        for (const batch of batches) {
          const before = selected(made);
          const changes = batch.map(({ kind, gone, spec, ...rest }) => {
            const object: PolicyObject = {
              kind,
              ...rest,
              uid: rest.name,
              generation: 1,
              annotations: {},
              spec: kind === 'AuthorizationPolicy' ? spec.authorization : spec.peers,
            };
            if (gone) objects.delete(`${kind} ${rest.namespace}/${rest.name}`);
            else objects.set(`${kind} ${rest.namespace}/${rest.name}`, object);
            return gone ? went(object) : came(object);
          });
          const { affected } = made.apply(...changes);
          const after = selected(made);
          for (const [index, [namespace]] of pods.entries())
            if (affected !== 'all' && !affected.has(namespace)) expect(after[index]).toEqual(before[index]);
        }
        const anew = new Served();
        for (const object of [...objects.values()].reverse()) anew.apply(came(object));
        expect(made.json()).toEqual(anew.json());
        expect(selected(made)).toEqual(selected(anew));
        for (const name of selected(made).flat()) expect(made.resources.has(name)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });
});
