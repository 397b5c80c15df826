import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { podFlags } from '../../../src/enrol/overrides.ts';
import { decide, MODE_LABEL, namespaceEnrols, SIDECAR_ANNOTATION, type PolicyPod } from '../../../src/enrol/policy.ts';
import type { NamespaceRecord } from '../../../src/sources/source.ts';

const none: ReadonlySet<string> = new Set();
const pod = (over: Partial<PolicyPod> = {}): PolicyPod => ({
  namespace: 'shop',
  labels: {},
  annotations: {},
  hostNetwork: false,
  phase: 'Running',
  ...over,
});
const ns = (mode?: string): NamespaceRecord => ({
  name: 'shop',
  labels: mode === undefined ? {} : { [MODE_LABEL]: mode },
  annotations: {},
});
const mode = fc.option(fc.constantFrom('ambient', 'none', 'Ambient', '', 'sidecar'), { nil: undefined });

describe('enrolment policy', () => {
  it.each([
    ['namespace label', pod(), ns('ambient'), true, `namespace label ${MODE_LABEL}=ambient`],
    ['pod label alone', pod({ labels: { [MODE_LABEL]: 'ambient' } }), ns(), true, `pod label ${MODE_LABEL}=ambient`],
    ['pod opts out', pod({ labels: { [MODE_LABEL]: 'none' } }), ns('ambient'), false, 'opts out'],
    ['unknown pod label under an enrolled namespace', pod({ labels: { [MODE_LABEL]: 'x' } }), ns('ambient'), true, '"x" is unknown'],
    ['unknown namespace label', pod(), ns('ambiant'), false, '"ambiant" is unknown (known: ambient, none)'],
    ['no label', pod(), ns(), false, 'neither pod nor namespace'],
    ['unknown namespace', pod(), undefined, false, 'unknown to the source'],
    ['host network', pod({ hostNetwork: true }), ns('ambient'), false, 'host network'],
    ['sidecar', pod({ annotations: { [SIDECAR_ANNOTATION]: '' } }), ns('ambient'), false, 'sidecar'],
    ['ended', pod({ phase: 'Failed' }), ns('ambient'), false, 'phase Failed'],
  ])('%s', (_, p, n, enrolled, reason) => {
    const decision = decide(p, n, none);
    expect(decision.enrolled).toBe(enrolled);
    expect(decision.reason).toContain(reason);
  });

  it("agrees with Istio's two selectors for every combination of labels", () => {
    fc.assert(
      fc.property(mode, mode, (podMode, nsMode) => {
        const labels = podMode === undefined ? {} : { [MODE_LABEL]: podMode };
        const istio = podMode === 'ambient' || (podMode !== 'none' && nsMode === 'ambient');
        expect(decide(pod({ labels }), ns(nsMode), none).enrolled).toBe(istio);
      }),
    );
  });

  it('never enrols what cannot be or is excluded, and always says why', () => {
    const arbitrary = fc.record({
      hostNetwork: fc.boolean(),
      phase: fc.constantFrom<PolicyPod['phase'][]>('Pending', 'Running', 'Succeeded', 'Failed'),
      sidecar: fc.boolean(),
      excluded: fc.boolean(),
      podMode: mode,
      nsMode: mode,
    });
    fc.assert(
      fc.property(arbitrary, (a) => {
        const annotations = a.sidecar ? { [SIDECAR_ANNOTATION]: '{}' } : {};
        const labels = a.podMode === undefined ? {} : { [MODE_LABEL]: a.podMode };
        const decision = decide(
          pod({ hostNetwork: a.hostNetwork, phase: a.phase, labels, annotations }),
          ns(a.nsMode),
          new Set(a.excluded ? ['shop'] : []),
        );
        expect(decision.reason.length).toBeGreaterThan(10);
        const impossible = a.hostNetwork || a.sidecar || a.excluded || a.phase === 'Succeeded' || a.phase === 'Failed';
        if (impossible) expect(decision.enrolled).toBe(false);
      }),
    );
  });

  it('says of a namespace what the plugin needs while the agent is away', () => {
    expect(namespaceEnrols(ns('ambient'), none)).toBe(true);
    expect(namespaceEnrols(ns('ambient'), new Set(['shop']))).toBe(false);
    expect(namespaceEnrols(ns('none'), none)).toBe(false);
  });
});

describe('pod annotations', () => {
  it('override the defaults', () => {
    expect(podFlags({}, { dns: true }).flags).toEqual({ dns: true, ingressMode: false, markOnly: false });
    expect(podFlags({ 'ambient.istio.io/dns-capture': 'F', 'ambient.istio.io/bypass-inbound-capture': '1' }, { dns: true })).toEqual({
      flags: { dns: false, ingressMode: true, markOnly: false },
      warnings: new Map(),
    });
  });

  it('are ignored with a warning when they are no boolean', () => {
    const { flags, warnings } = podFlags({ 'ambient.istio.io/dns-capture': 'yes' }, { dns: true });
    expect(flags.dns).toBe(true);
    expect([...warnings.values()]).toEqual(['annotation ambient.istio.io/dns-capture="yes" is not a boolean and is ignored']);
  });
});
