import { describe, expect, it } from 'vitest';
import { translateAuthorizationPolicy, type Translated } from '../../../../src/control/policy/authorization-policy.ts';
import { authorizationPolicy, json, MESH, ROOT } from './cluster.ts';

const translate = (spec: unknown, some: Parameters<typeof authorizationPolicy>[1] = {}, trustDomain = 'cluster.local'): Translated =>
  translateAuthorizationPolicy(authorizationPolicy(spec, some), { ...MESH, trustDomain });
const rules = (spec: unknown, trustDomain?: string): unknown[] => {
  const { authorization } = translate(spec, {}, trustDomain);
  return (json(authorization!) as { rules?: unknown[] }).rules ?? [];
};
/** The one match of the one clause of the one rule. */
const match = (rule: unknown, trustDomain?: string): unknown => {
  const [only] = rules({ rules: [rule] }, trustDomain) as { clauses: { matches: unknown[] }[] }[];
  return only?.clauses[0]?.matches[0];
};
const from = (source: object): object => ({ from: [{ source }] });
const to = (operation: object): object => ({ to: [{ operation }] });
const when = (key: string, values: unknown, notValues?: unknown): object => ({
  when: [{ key, values, ...(notValues === undefined ? {} : { notValues }) }],
});
const base64 = (...bytes: number[]): string => Buffer.from(bytes).toString('base64');

describe('scope and action', () => {
  it.each([
    ['a namespace', {}, 'shop', 'NAMESPACE'],
    ['the root namespace', {}, ROOT, undefined],
    ['a selector', { selector: { matchLabels: { app: 'web' } } }, 'shop', 'WORKLOAD_SELECTOR'],
    ['a selector in the root namespace', { selector: { matchLabels: { app: 'web' } } }, ROOT, 'WORKLOAD_SELECTOR'],
    ['a selector without labels, which selects all', { selector: {} }, 'shop', 'NAMESPACE'],
    ['a selector of no labels', { selector: { matchLabels: {} } }, ROOT, undefined],
  ])('is that of %s', (_, spec, namespace, scope) => {
    const { authorization, verdict } = translate(spec, { namespace });
    expect((json(authorization!) as { scope?: string }).scope).toBe(scope); // GLOBAL is the default
    expect(verdict.ok).toBe(true);
  });

  it.each([
    [undefined, undefined],
    [null, undefined],
    ['ALLOW', undefined],
    ['DENY', 'DENY'],
  ])('of action %s', (action, expected) => {
    const { authorization, verdict } = translate({ action, rules: [{}] });
    expect((json(authorization!) as { action?: string }).action).toBe(expected);
    expect(verdict).toMatchObject({ ok: true, reason: 'Accepted', sent: true, faults: [] });
  });

  it.each(['AUDIT', 'CUSTOM'])('%s is nothing for tunnels', (action) => {
    const { authorization, verdict } = translate({ action, rules: [{}], ...(action === 'CUSTOM' ? { provider: { name: 'opa' } } : {}) });
    expect(authorization).toBeUndefined();
    expect(verdict).toMatchObject({ ok: false, reason: 'UnsupportedValue', sent: false });
    expect(verdict.message).toContain(action);
  });

  it.each([{ targetRefs: [{ kind: 'Gateway', name: 'waypoint' }] }, { targetRef: { kind: 'Service', name: 'web' } }])(
    '%j is for waypoints',
    (spec) => {
      const { authorization, verdict } = translate({ ...spec, rules: [{}] });
      expect(authorization).toBeUndefined();
      expect(verdict).toMatchObject({ ok: false, reason: 'UnsupportedValue', sent: false });
    },
  );

  it('tells no rules, which is nobody, from an empty rule, which is everybody', () => {
    expect(rules({})).toEqual([]);
    expect(rules({ rules: [] })).toEqual([]);
    expect(rules({ rules: [{}] })).toEqual([{}]);
    expect(translate(undefined).verdict.ok).toBe(true);
    expect(translate({ action: 'DENY' }).verdict).toMatchObject({ ok: false, reason: 'Invalid' });
  });

  it.each([
    ['true', true, true],
    ['1', true, true],
    ['false', false, true],
    ['yes', false, false],
  ])('dry run "%s" becomes %s', (text, dryRun, ok) => {
    const { authorization, verdict } = translate({ rules: [{}] }, { annotations: { 'istio.io/dry-run': text } });
    expect(authorization?.dryRun).toBe(dryRun);
    expect(verdict.ok).toBe(ok);
  });
});

describe('what matches', () => {
  it.each([
    ['exact', 'td/ns/a/sa/b', { exact: 'td/ns/a/sa/b' }],
    ['prefix', 'td/ns/a/*', { prefix: 'td/ns/a/' }],
    ['suffix', '*/sa/b', { suffix: '/sa/b' }],
    ['presence', '*', { presence: {} }],
  ])('%s', (_, text, expected) => {
    expect(match(from({ principals: [text] }))).toEqual({ principals: [expected] });
    expect(match(from({ notPrincipals: [text] }))).toEqual({ notPrincipals: [expected] });
    expect(match(from({ namespaces: [text], notNamespaces: [text] }))).toEqual({ namespaces: [expected], notNamespaces: [expected] });
    expect(match(when('source.principal', [text], [text]))).toEqual({ principals: [expected], notPrincipals: [expected] });
    expect(match(when('source.namespace', [text], [text]))).toEqual({ namespaces: [expected], notNamespaces: [expected] });
  });

  it('cluster.local in a principal means the trust domain of the mesh', () => {
    expect(match(from({ principals: ['cluster.local/ns/a/sa/b', 'other/ns/a/sa/b', '*'] }), 'td')).toEqual({
      principals: [{ exact: 'td/ns/a/sa/b' }, { exact: 'other/ns/a/sa/b' }, { presence: {} }],
    });
    expect(match(when('source.principal', ['cluster.local/ns/a/*']), 'td')).toEqual({ principals: [{ prefix: 'td/ns/a/' }] });
    expect(match(from({ namespaces: ['cluster.local'] }), 'td')).toEqual({ namespaces: [{ exact: 'cluster.local' }] });
  });

  it('an account alone is of the namespace of the policy', () => {
    const expected = [
      { namespace: 'shop', serviceAccount: 'web' },
      { namespace: 'bank', serviceAccount: 'teller' },
    ];
    expect(match(from({ serviceAccounts: ['web', 'bank/teller'] }))).toEqual({ serviceAccounts: expected });
    expect(match(when('source.serviceAccount', [], ['web', 'bank/teller']))).toEqual({ notServiceAccounts: expected });
  });

  it('ports and addresses', () => {
    expect(match(to({ ports: ['80', '65535'], notPorts: ['1'] }))).toEqual({ destinationPorts: [80, 65535], notDestinationPorts: [1] });
    expect(match(when('destination.port', ['443']))).toEqual({ destinationPorts: [443] });
    const blocks = [
      { address: base64(10, 1, 2, 3), length: 32 },
      { address: base64(10, 0, 0, 0), length: 8 },
      { address: base64(0xfd, ...new Array<number>(14).fill(0), 1), length: 128 },
      { address: base64(0xfd, ...new Array<number>(15).fill(0)) }, // length 0 is proto's default
      { address: base64(10, 9, 0, 0), length: 16 },
    ];
    const texts = ['10.1.2.3', '10.0.0.0/8', 'fd00::1', 'fd00::/0', '::ffff:10.9.0.0/112'];
    expect(match(from({ ipBlocks: texts, notIpBlocks: ['10.1.2.3'] }))).toEqual({ sourceIps: blocks, notSourceIps: blocks.slice(0, 1) });
    expect(match(when('source.ip', texts))).toEqual({ sourceIps: blocks });
    expect(match(when('destination.ip', texts, ['10.1.2.3']))).toEqual({ destinationIps: blocks, notDestinationIps: blocks.slice(0, 1) });
  });

  it('entries of a clause are alternatives; to, from and each when are clauses', () => {
    const [rule] = rules({
      rules: [
        {
          from: [{ source: { namespaces: ['a'] } }, { source: { namespaces: ['b'], principals: ['p'] } }],
          to: [{ operation: { ports: ['80'] } }],
          when: [
            { key: 'destination.port', values: ['80'] },
            { key: 'source.ip', notValues: ['10.0.0.1'] },
          ],
        },
      ],
    });
    expect(rule).toEqual({
      clauses: [
        { matches: [{ destinationPorts: [80] }] },
        { matches: [{ namespaces: [{ exact: 'a' }] }, { namespaces: [{ exact: 'b' }], principals: [{ exact: 'p' }] }] },
        { matches: [{ destinationPorts: [80] }] },
        { matches: [{ notSourceIps: [{ address: base64(10, 0, 0, 1), length: 32 }] }] },
      ],
    });
  });
});

/** Each with one port that L4 could judge. */
const HTTP = [
  ['methods', { to: [{ operation: { ports: ['80'], methods: ['GET'] } }] }],
  ['notPaths', { to: [{ operation: { ports: ['80'], notPaths: ['/admin*'] } }] }],
  ['hosts', { to: [{ operation: { ports: ['80'], hosts: ['web.shop'] } }] }],
  ['requestPrincipals', { ...to({ ports: ['80'] }), ...from({ requestPrincipals: ['*'], namespaces: ['a'] }) }],
  ['remoteIpBlocks', { ...to({ ports: ['80'] }), ...from({ remoteIpBlocks: ['10.0.0.0/8'], namespaces: ['a'] }) }],
  ['notTrustDomains', { ...to({ ports: ['80'] }), ...from({ notTrustDomains: ['td'], namespaces: ['a'] }) }],
] as const;
const HTTP_KEYS = [
  ...['request.headers[x-user]', 'request.auth.principal', 'request.auth.claims[iss]', 'remote.ip', 'connection.sni', 'source.trustDomain'],
  'experimental.envoy.filters.network.mysql_proxy[db.table]',
];

describe('what L4 does not see', () => {
  it.each([...HTTP, ...HTTP_KEYS.map((key) => [key, { ...to({ ports: ['80'] }), ...when(key, ['x']) }] as const)])(
    '%s: the ALLOW rule is left out and named',
    (name, rule) => {
      const { authorization, verdict } = translate({ rules: [rule, to({ ports: ['90'] })] });
      expect(authorization?.rules).toHaveLength(1);
      expect(verdict).toMatchObject({ ok: false, reason: 'UnsupportedValue', sent: true });
      expect(verdict.message).toContain(name);
      expect(verdict.message).toContain('rules[0]');
    },
  );

  it.each(HTTP)('%s: a DENY goes without it', (name, rule) => {
    const [denied] = rules({ action: 'DENY', rules: [rule] });
    const { verdict } = translate({ action: 'DENY', rules: [rule] });
    expect(denied).toMatchObject({ clauses: [{ matches: [{ destinationPorts: [80] }] }, ...('from' in rule ? [{ matches: [{}] }] : [])] });
    expect(verdict).toMatchObject({ ok: false, reason: 'UnsupportedValue', sent: true });
    expect(verdict.message).toContain(name);
    expect(verdict.message).toContain('without regard to them');
  });

  it.each(HTTP_KEYS)('%s: a DENY with it matches nothing, as Istio has it', (key) => {
    const spec = { action: 'DENY', rules: [{ ...to({ ports: ['80'] }), ...when(key, ['x']) }] };
    expect(rules(spec)).toEqual([{ clauses: [{ matches: [{ destinationPorts: [80] }] }, { matches: [{}] }] }]);
    expect(translate(spec).verdict.message).toMatch(/the rule denies nothing.*Sent to the tunnels: nothing of it\./);
  });
});

describe('what nobody can read', () => {
  /** rule, what is named, what it was found to be */
  const BAD: [rule: unknown, path: string, found: string][] = [
    [null, 'rules[0]', 'null'],
    ['x', 'rules[0]', '"x"'],
    [{ form: [] }, 'rules[0].form', '[]'],
    [{ from: [] }, 'rules[0].from', '[]'],
    [{ from: null }, 'rules[0].from', 'null'],
    [{ from: {} }, 'rules[0].from', '{}'],
    [{ from: [{}] }, 'rules[0].from[0].source', ''],
    [{ from: [{ source: {} }] }, 'rules[0].from[0].source', '{}'],
    [{ from: [{ source: { principals: [] } }] }, 'rules[0].from[0].source', '{"principals":[]}'],
    [from({ principals: 'a' }), 'rules[0].from[0].source.principals', '"a"'],
    [from({ principals: ['spiffe://td/ns/a/sa/b'] }), 'rules[0].from[0].source.principals[0]', '"spiffe://td/ns/a/sa/b"'],
    [from({ principals: ['a*b'] }), 'rules[0].from[0].source.principals[0]', '"a*b"'],
    [from({ namespaces: [''] }), 'rules[0].from[0].source.namespaces[0]', '""'],
    [from({ namespaces: ['**'] }), 'rules[0].from[0].source.namespaces[0]', '"**"'],
    [from({ namespaces: ['a', 7] }), 'rules[0].from[0].source.namespaces[1]', '7'],
    [from({ serviceAccounts: ['a/b/c'] }), 'rules[0].from[0].source.serviceAccounts[0]', '"a/b/c"'],
    [from({ serviceAccounts: ['a/'] }), 'rules[0].from[0].source.serviceAccounts[0]', '"a/"'],
    [from({ serviceAccounts: ['a*'] }), 'rules[0].from[0].source.serviceAccounts[0]', '"a*"'],
    [from({ ipBlocks: ['10.0.0.0/33'] }), 'rules[0].from[0].source.ipBlocks[0]', '"10.0.0.0/33"'],
    [from({ ipBlocks: ['10.0.0.0/'] }), 'rules[0].from[0].source.ipBlocks[0]', '"10.0.0.0/"'],
    [from({ ipBlocks: ['10.0.0.0/08'] }), 'rules[0].from[0].source.ipBlocks[0]', '"10.0.0.0/08"'],
    [from({ ipBlocks: ['fe80::1%eth0'] }), 'rules[0].from[0].source.ipBlocks[0]', '"fe80::1%eth0"'],
    [from({ ipBlocks: ['::ffff:10.0.0.0/8'] }), 'rules[0].from[0].source.ipBlocks[0]', '"::ffff:10.0.0.0/8"'],
    [from({ notIpBlocks: ['web'] }), 'rules[0].from[0].source.notIpBlocks[0]', '"web"'],
    [from({ users: ['a'] }), 'rules[0].from[0].source.users', '["a"]'],
    [to({ ports: ['0'] }), 'rules[0].to[0].operation.ports[0]', '"0"'],
    [to({ ports: ['70000'] }), 'rules[0].to[0].operation.ports[0]', '"70000"'],
    [to({ ports: [80] }), 'rules[0].to[0].operation.ports[0]', '80'],
    [to({ ports: ['http'] }), 'rules[0].to[0].operation.ports[0]', '"http"'],
    [to({ notPorts: ['-1'] }), 'rules[0].to[0].operation.notPorts[0]', '"-1"'],
    [to({ methods: [''] }), 'rules[0].to[0].operation.methods[0]', '""'],
    [{ when: {} }, 'rules[0].when', '{}'],
    [{ when: [{ values: ['x'] }] }, 'rules[0].when[0].key', 'null'],
    [when('destination.labels[app]', ['x']), 'rules[0].when[0].key', '"destination.labels[app]"'],
    [when('source.ip', []), 'rules[0].when[0]', '{"key":"source.ip","values":[]}'],
    [when('source.ip', ['x']), 'rules[0].when[0].values[0]', '"x"'],
    [when('destination.port', ['80'], ['x']), 'rules[0].when[0].notValues[0]', '"x"'],
  ];

  it.each(BAD)('%j is named with path and value, and allows nothing', (rule, path, found) => {
    const { authorization, verdict } = translate({ rules: [rule, to({ ports: ['90'] })] });
    expect(verdict).toMatchObject({ ok: false, reason: 'Invalid', sent: true });
    expect(verdict.faults.join('\n')).toContain(`${path}: `);
    expect(verdict.faults.join('\n')).toContain(found === '' ? '' : `found ${found}`);
    expect(authorization?.rules).toHaveLength(1);
  });

  it.each(BAD)('%j denies more, not less', (rule) => {
    const [denied] = rules({ action: 'DENY', rules: [rule] });
    expect(denied).toEqual({}); // the one clause there was is left out: the rule matches everything
  });

  it('a DENY rule keeps the clauses that can be read', () => {
    const spec = { action: 'DENY', rules: [{ ...from({ namespaces: ['a'] }), ...to({ ports: ['http'] }) }] };
    expect(rules(spec)).toEqual([{ clauses: [{ matches: [{ namespaces: [{ exact: 'a' }] }] }] }]);
    expect(translate(spec).verdict.message).toContain('Sent to the tunnels: a DENY');
  });

  it.each([
    ['spec', 'x', 'spec', undefined],
    ['action', { action: 'Deny', rules: [{}] }, 'action', undefined],
    ['action of another type', { action: 1, rules: [{}] }, 'action', undefined],
    ['selector', { selector: 'app', rules: [{}] }, 'selector', undefined],
    [
      'matchExpressions',
      { selector: { matchLabels: { a: 'b' }, matchExpressions: [] }, rules: [{}] },
      'selector.matchExpressions',
      { a: 'b' },
    ],
    ['label', { selector: { matchLabels: { app: 5, tier: 'x' } }, rules: [{}] }, 'selector.matchLabels.app', { tier: 'x' }],
    ['label with wildcard', { selector: { matchLabels: { app: 'web*' } }, rules: [{}] }, 'selector.matchLabels', undefined],
    ['field', { rulez: [], rules: [{}] }, 'rulez', undefined],
    ['provider', { provider: { name: 'opa' }, rules: [{}] }, 'provider', undefined],
    ['targetRefs', { targetRefs: 'waypoint', rules: [{}] }, 'targetRefs', undefined],
    ['rules', { rules: {} }, 'rules', undefined],
  ])('%s: the whole ALLOW allows nothing', (_, spec, path, selector) => {
    const { authorization, verdict, ...rest } = translate(spec);
    expect(authorization?.rules).toEqual([]);
    expect(rest.selector).toEqual(selector);
    expect(verdict).toMatchObject({ ok: false, reason: 'Invalid' });
    expect(verdict.faults[0]).toMatch(new RegExp(`^${path.replaceAll('.', '\\.')}: `));
  });

  it('a DENY whose selector cannot be read is for the whole namespace; one whose rules cannot, for everything', () => {
    const { authorization, selector } = translate({ action: 'DENY', selector: [], rules: [to({ ports: ['80'] })] });
    expect(selector).toBeUndefined();
    expect(json(authorization!)).toMatchObject({ scope: 'NAMESPACE', rules: [{ clauses: [{ matches: [{ destinationPorts: [80] }] }] }] });
    expect(rules({ action: 'DENY', rules: 'all' })).toEqual([{}]);
  });

  it('names every fault, and says how many more there are', () => {
    const { verdict } = translate({ rules: [to({ ports: Array.from({ length: 200 }, () => 'http') }), from({ namespaces: [1] })] });
    expect(verdict.faults).toHaveLength(51);
    expect(verdict.faults.at(-1)).toBe('151 more faults');
    expect(verdict.message.length).toBeLessThanOrEqual(1000);
    expect(verdict.message).toMatch(/Sent to the tunnels: .*\.$/);
  });

  it('takes lists longer than the arguments of a call, and values nested deeper than the stack', () => {
    const { authorization } = translate({ rules: [to({ ports: new Array(300_000).fill('80') })] });
    expect(authorization?.rules[0]?.clauses[0]?.matches[0]?.destinationPorts).toHaveLength(300_000);
    const deep = JSON.parse('['.repeat(100_000) + ']'.repeat(100_000)) as unknown;
    expect(translate({ rules: [{ from: deep }] }).verdict.reason).toBe('Invalid');
    expect(translate({ selector: deep }).verdict.faults).toEqual(['selector: must be an object, found a value too deep to show']);
  });
});
