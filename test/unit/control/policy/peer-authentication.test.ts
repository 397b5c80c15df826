import { describe, expect, it } from 'vitest';
import type { PolicyObject } from '../../../../src/control/cluster.ts';
import { came, peerAuthentication, ROOT, Served, went } from './cluster.ts';
import { permits, type Connection } from './enforce.ts';

const STATIC = `${ROOT}/istio_converted_static_strict`;
const OWN = 'shop/converted_peer_authentication_web';
const WEB = { app: 'web' };

const mesh = (mode: string): PolicyObject => peerAuthentication({ mtls: { mode } }, { namespace: ROOT, name: 'default' });
const namespace = (mode: string): PolicyObject => peerAuthentication({ mtls: { mode } }, { name: 'default' });
const workload = (spec: object, some: Partial<PolicyObject> = {}): PolicyObject =>
  peerAuthentication({ selector: { matchLabels: WEB }, ...spec }, { name: 'web', ...some });
const mode = (text: string): { mtls: { mode: string } } => ({ mtls: { mode: text } });
const ports = (modes: Record<string, string>): { portLevelMtls: object } => ({
  portLevelMtls: Object.fromEntries(Object.entries(modes).map(([port, text]) => [port, { mode: text }])),
});
const served = (...policies: PolicyObject[]): Served => {
  const made = new Served();
  made.apply(...policies.map(came));
  return made;
};

const PLAIN: Connection = { source: '10.0.0.1', destination: '10.0.0.2', port: 80 };
const PEER = { trustDomain: 'cluster.local', namespace: 'shop', account: 'client' };

/** Ports, of 80 and 90, on which plain text is taken. mTLS always is. */
function open(made: Served, labels: Record<string, string> = WEB): number[] {
  const at = { namespace: 'shop', policies: made.policies.selecting('shop', labels) };
  for (const name of at.policies) expect([...made.resources.keys()], 'is referred to and not served').toContain(name);
  for (const port of [80, 90]) expect(permits(made.resources.values(), at, { ...PLAIN, port, peer: PEER })).toBe(true);
  return [80, 90].filter((port) => permits(made.resources.values(), at, { ...PLAIN, port }));
}

describe('levels', () => {
  it.each<[title: string, policies: PolicyObject[], refers: string[], open: number[]]>([
    ['none', [], [], [80, 90]],
    ['mesh', [mesh('STRICT')], [STATIC], []],
    ['mesh', [mesh('PERMISSIVE')], [], [80, 90]],
    ['mesh', [mesh('DISABLE')], [], [80, 90]],
    ['mesh, UNSET', [peerAuthentication({}, { namespace: ROOT })], [], [80, 90]],
    ['mesh, namespace', [mesh('STRICT'), namespace('PERMISSIVE')], [], [80, 90]],
    ['mesh, namespace', [mesh('STRICT'), namespace('UNSET')], [STATIC], []],
    ['mesh, namespace', [mesh('PERMISSIVE'), namespace('STRICT')], [STATIC], []],
    ['namespace, workload', [namespace('STRICT'), workload(mode('PERMISSIVE'))], [], [80, 90]],
    ['namespace, workload', [namespace('STRICT'), workload({})], [STATIC], []],
    ['workload', [workload(mode('STRICT'))], [STATIC], []],
    ['ports', [workload({ ...mode('STRICT'), ...ports({ 80: 'STRICT' }) })], [STATIC], []],
    ['ports', [workload({ ...mode('STRICT'), ...ports({ 80: 'PERMISSIVE' }) })], [OWN], [80]],
    ['ports', [workload({ ...mode('STRICT'), ...ports({ 80: 'DISABLE', 90: 'STRICT' }) })], [OWN], [80]],
    ['ports', [workload({ ...mode('STRICT'), ...ports({ 80: 'PERMISSIVE', 90: 'PERMISSIVE' }) })], [OWN], [80, 90]],
    ['ports', [workload({ ...mode('PERMISSIVE'), ...ports({ 80: 'STRICT' }) })], [OWN], [90]],
    ['ports', [workload({ ...mode('DISABLE'), ...ports({ 80: 'STRICT', 90: 'STRICT' }) })], [OWN], []],
    ['ports', [workload({ ...mode('PERMISSIVE'), ...ports({ 80: 'PERMISSIVE', 90: 'UNSET' }) })], [], [80, 90]],
    ['ports', [workload(ports({ 80: 'STRICT' }))], [OWN], [90]],
    ['ports, strict mesh', [mesh('STRICT'), workload(ports({ 80: 'PERMISSIVE' }))], [OWN], [80]],
    ['ports, strict mesh', [mesh('STRICT'), workload(ports({ 80: 'STRICT' }))], [STATIC], []],
    ['ports, strict mesh', [mesh('STRICT'), workload({ ...mode('PERMISSIVE'), ...ports({ 80: 'STRICT' }) })], [OWN], [90]],
    ['ports, strict mesh, unset namespace', [mesh('STRICT'), namespace('UNSET'), workload(ports({ 80: 'PERMISSIVE' }))], [OWN], [80]],
    ['ports, strict mesh, open namespace', [mesh('STRICT'), namespace('PERMISSIVE'), workload(ports({ 80: 'STRICT' }))], [OWN], [90]],
    ['ports, strict namespace', [namespace('STRICT'), workload(ports({ 80: 'DISABLE', 90: 'STRICT' }))], [OWN], [80]],
  ])('%s %#', (_, policies, refers, expected) => {
    const made = served(...policies);
    expect(made.policies.selecting('shop', { ...WEB, tier: 'x' })).toEqual(refers);
    expect(open(made)).toEqual(expected);
    // Whoever is not selected has what the namespace and the mesh say.
    const others = served(...policies.filter(({ name }) => name !== 'web'));
    expect(made.policies.selecting('shop', { app: 'other' })).toEqual(others.policies.selecting('shop', {}));
  });

  it('the oldest counts, at each level; of one age the first by name', () => {
    const at = (spec: object, name: string, created: number, inside = 'shop'): PolicyObject =>
      peerAuthentication(spec, { name, created, namespace: inside });
    expect(open(served(at(mode('STRICT'), 'b', 2, ROOT), at(mode('PERMISSIVE'), 'a', 3, ROOT)))).toEqual([]);
    expect(open(served(at(mode('PERMISSIVE'), 'b', 5), at(mode('STRICT'), 'a', 5)))).toEqual([]);
    expect(open(served(at(mode('STRICT'), 'b', 5), at(mode('PERMISSIVE'), 'a', 5)))).toEqual([80, 90]);
    const two = served(
      workload({ ...mode('STRICT'), ...ports({ 80: 'PERMISSIVE' }) }, { created: 9 }),
      workload({ ...mode('STRICT'), ...ports({ 90: 'PERMISSIVE' }) }, { created: 8, name: 'older' }),
    );
    expect(two.policies.selecting('shop', WEB)).toEqual(['shop/converted_peer_authentication_older']);
    expect(open(two)).toEqual([90]);
  });
});

describe('what stands for them', () => {
  it('has the names, scopes and rules that tunnels know from Istio', () => {
    const anybody = { notPrincipals: [{ presence: {} }] };
    expect(served(mesh('STRICT')).json()).toEqual({
      [STATIC]: {
        ...{ name: 'istio_converted_static_strict', namespace: ROOT, scope: 'WORKLOAD_SELECTOR', action: 'DENY' },
        rules: [{ clauses: [{ matches: [anybody] }] }],
      },
    });
    const own = { name: 'converted_peer_authentication_web', namespace: 'shop', scope: 'WORKLOAD_SELECTOR', action: 'DENY' };
    expect(served(workload({ ...mode('STRICT'), ...ports({ 8080: 'PERMISSIVE', 443: 'DISABLE' }) })).json()[OWN]).toEqual({
      ...own,
      rules: [
        { clauses: [anybody, { notDestinationPorts: [443] }, { notDestinationPorts: [8080] }].map((match) => ({ matches: [match] })) },
      ],
    });
    expect(served(workload({ ...mode('PERMISSIVE'), ...ports({ 8080: 'STRICT', 443: 'STRICT' }) })).json()[OWN]).toEqual({
      ...own,
      rules: [443, 8080].map((port) => ({ clauses: [{ matches: [{ ...anybody, destinationPorts: [port] }] }] })),
    });
  });

  it('follows what is inherited, without the policy itself changing', () => {
    const made = served(workload(ports({ 80: 'PERMISSIVE', 90: 'STRICT' })));
    expect(open(made)).toEqual([80]);
    const before = made.json()[OWN];
    expect(made.apply(came(mesh('STRICT'))).affected).toBe('all');
    expect(made.json()[OWN]).not.toEqual(before);
    expect(open(made)).toEqual([80]);
    expect(made.apply(came(namespace('PERMISSIVE'))).affected).toEqual(new Set(['shop']));
    expect(made.json()[OWN]).toEqual(before);
    made.apply(went(namespace('')), went(mesh('')));
    expect(made.json()[OWN]).toEqual(before);
    made.apply(went(workload({})));
    expect(made.json()).toEqual({});
  });

  it('costs nothing where nothing is other than before', () => {
    const made = served(mesh('STRICT'), namespace('STRICT'));
    const change = made.apply(came(mesh('STRICT')), came(namespace('UNSET')));
    expect(change).toMatchObject({ set: [], removed: [], affected: new Set() });
  });
});

describe('what is reported', () => {
  it.each([
    [mode('DISABLE'), 'mtls.mode: DISABLE'],
    [ports({ 80: 'DISABLE' }), 'portLevelMtls.80.mode: DISABLE'],
  ])('%j is not supported and counts as PERMISSIVE', (spec, text) => {
    const [report] = new Served().apply(came(workload(spec))).reports;
    expect(report?.verdict).toMatchObject({ ok: false, reason: 'UnsupportedValue', sent: true });
    expect(report?.verdict?.message).toContain(text);
  });

  it('a selector in the root namespace has no effect', () => {
    const made = new Served();
    const { reports } = made.apply(came(workload(mode('STRICT'), { namespace: ROOT })));
    expect(reports[0]?.verdict).toMatchObject({ ok: false, reason: 'UnsupportedValue', sent: false });
    expect(open(made)).toEqual([80, 90]);
    expect(made.policies.selecting(ROOT, WEB)).toEqual([]);
  });

  it.each<[unknown, string]>([
    [5, 'spec: '],
    [{ mtls: 'STRICT' }, 'mtls: '],
    [mode('strict'), 'mtls.mode: '],
    [{ mtls: { mode: 1 } }, 'mtls.mode: '],
    [{ mtls: { level: 'STRICT' } }, 'mtls.level: '],
    [{ selector: { matchLabels: WEB }, ...mode('PERMISSIVE'), ...ports({ 70000: 'PERMISSIVE' }) }, 'portLevelMtls.70000: '],
    [{ selector: { matchLabels: WEB }, ...mode('PERMISSIVE'), ...ports({ 0: 'PERMISSIVE' }) }, 'portLevelMtls.0: '],
    [{ selector: { matchLabels: WEB }, ...mode('PERMISSIVE'), portLevelMtls: { 80: null } }, 'portLevelMtls.80: '],
    [{ selector: { matchLabels: WEB }, ...mode('PERMISSIVE'), portLevelMtls: {} }, 'portLevelMtls: '],
    [{ ...mode('PERMISSIVE'), ...ports({ 80: 'PERMISSIVE' }) }, 'portLevelMtls: '],
    [{ selector: 'app=web', ...mode('PERMISSIVE') }, 'selector: '],
  ])('%j is named and counts as STRICT', (spec, path) => {
    const made = new Served();
    const { reports } = made.apply(came(peerAuthentication(spec)));
    expect(reports[0]?.verdict).toMatchObject({ ok: false, reason: 'Invalid', sent: true });
    expect(reports[0]?.verdict?.faults[0]).toContain(path);
    expect(open(made)).toEqual([]);
  });
});
