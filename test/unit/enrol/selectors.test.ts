import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { loadConfig } from '../../../src/base/config.ts';
import { enablementSelectorsSchema, enables, matches, type EnablementSelector, type LabelSelector } from '../../../src/enrol/selectors.ts';

const KEYS = ['app', 'team', 'istio.io/dataplane-mode', '__proto__', 'constructor'];
const VALUES = ['a', 'b', ''];
const key = fc.constantFrom(...KEYS);
const values = fc.uniqueArray(fc.constantFrom(...VALUES), { minLength: 1 });
const labels = fc.array(fc.tuple(key, fc.constantFrom(...VALUES))).map((pairs) => Object.fromEntries(pairs));
const requirement = fc.oneof(
  fc.record({ key, operator: fc.constantFrom('In' as const, 'NotIn' as const), values }),
  fc.record({ key, operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const) }),
);
const selector: fc.Arbitrary<LabelSelector> = fc.record(
  { matchLabels: labels, matchExpressions: fc.array(requirement, { maxLength: 3 }) },
  { requiredKeys: [] },
);

/** The documentation of Kubernetes, sentence by sentence: every requirement of both lists must hold; a label of matchLabels is an In of one. */
function model(of: LabelSelector, on: Record<string, string>): boolean {
  const requirements = [
    ...Object.entries(of.matchLabels ?? {}).map(([name, value]) => ({ key: name, operator: 'In', values: [value] })),
    ...(of.matchExpressions ?? []),
  ];
  const present = new Map(Object.entries(on));
  for (const each of requirements) {
    const allowed = new Set(each.values ?? []);
    const value = present.get(each.key);
    if (each.operator === 'In' && !(present.has(each.key) && allowed.has(value!))) return false;
    if (each.operator === 'NotIn' && present.has(each.key) && allowed.has(value!)) return false;
    if (each.operator === 'Exists' && !present.has(each.key)) return false;
    if (each.operator === 'DoesNotExist' && present.has(each.key)) return false;
  }
  return true;
}

describe('label selectors', () => {
  it('mean what they mean in Kubernetes', () => {
    let hits = 0;
    fc.assert(
      fc.property(selector, labels, (of, on) => {
        expect(matches(of, on)).toBe(model(of, on));
        if (model(of, on)) hits++;
      }),
      { numRuns: 500 },
    );
    expect(hits).toBeGreaterThan(20);
  });

  it('enable a pod when both sides match; without one side, everything does', () => {
    fc.assert(
      fc.property(selector, selector, labels, labels, (podSelector, namespaceSelector, pod, namespace) => {
        expect(enables({ podSelector, namespaceSelector }, pod, namespace)).toBe(
          model(podSelector, pod) && model(namespaceSelector, namespace),
        );
        expect(enables({ podSelector }, pod, namespace)).toBe(model(podSelector, pod));
        expect(enables({}, pod, undefined)).toBe(true);
      }),
    );
  });
});

describe('enablement selectors as configured', () => {
  const schema = z.object({ enablementSelectors: enablementSelectorsSchema.optional() });
  const read = (text: string): EnablementSelector[] | undefined =>
    loadConfig(schema, { args: [], env: { CULVERT_ENABLEMENT_SELECTORS: text }, defaultFile: '/nowhere' }).enablementSelectors;

  it("are istio-cni's values, as YAML or JSON", () => {
    const expected = [
      { podSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } } },
      {
        podSelector: { matchExpressions: [{ key: 'istio.io/dataplane-mode', operator: 'NotIn', values: ['none'] }] },
        namespaceSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } },
      },
    ];
    const yaml = `- podSelector:
    matchLabels:
      istio.io/dataplane-mode: ambient
- podSelector:
    matchExpressions:
      - key: istio.io/dataplane-mode
        operator: NotIn
        values: [none]
  namespaceSelector:
    matchLabels:
      istio.io/dataplane-mode: ambient
`;
    expect(read(yaml)).toEqual(expected);
    expect(read(JSON.stringify(expected))).toEqual(expected);
    expect(read('[]')).toEqual([]);
    expect(loadConfig(schema, { args: [], env: {}, defaultFile: '/nowhere' }).enablementSelectors).toBeUndefined();
  });

  it.each([
    [
      '- podSelector: {matchExpressions: [{key: app, operator: in, values: [a]}]}',
      '0.podSelector.matchExpressions.0.operator: must be In, NotIn, Exists or DoesNotExist, found "in"',
    ],
    [
      '- namespaceSelector: {matchExpressions: [{key: app, operator: NotIn}]}',
      '0.namespaceSelector.matchExpressions.0.values: operator NotIn needs at least one',
    ],
    ['- podSelector: {matchExpressions: [{key: app, operator: Exists, values: [a]}]}', 'values: operator Exists takes none, found ["a"]'],
    ['- podSelector: {matchLabels: {"a b": x}}', 'matchLabels.a b: Invalid key'],
    ['- podSelector: {matchLabels: {app: "-x"}}', `0.podSelector.matchLabels.app: must be a label's value, found "-x"`],
    ['- podSelector: {matchLabels: {app: 1}}', '0.podSelector.matchLabels.app'],
    ['- podselector: {}', 'podselector'],
    ['podSelector: {}', 'enablementSelectors: '],
    ['- [', 'enablementSelectors: '],
    ['ambient', 'enablementSelectors: '],
  ])('are refused: %s', (text, message) => {
    expect(() => read(text)).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID', message: expect.stringContaining(message) as string }),
    );
    expect(() => read(text)).toThrow('variable CULVERT_ENABLEMENT_SELECTORS');
  });
});
