import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { podFlags } from '../../../src/enrol/overrides.ts';
import {
  decide,
  knownSelectors,
  MODE_LABEL,
  namespaceEnrols,
  SIDECAR_ANNOTATION,
  type EnrolmentRules,
  type PolicyPod,
} from '../../../src/enrol/policy.ts';
import type { EnablementSelector } from '../../../src/enrol/selectors.ts';
import type { NamespaceRecord } from '../../../src/sources/source.ts';

const rules = (excluded: string[] = [], selectors?: EnablementSelector[]): EnrolmentRules => ({
  excludedNamespaces: new Set(excluded),
  selectors: knownSelectors(selectors),
});
const none = rules();
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
          rules(a.excluded ? ['shop'] : []),
        );
        expect(decision.reason.length).toBeGreaterThan(10);
        const impossible = a.hostNetwork || a.sidecar || a.excluded || a.phase === 'Succeeded' || a.phase === 'Failed';
        if (impossible) expect(decision.enrolled).toBe(false);
      }),
    );
  });

  it('asks in the order of the contract: what the pod is, the selectors, the exclusion, the end', () => {
    const said = (over: Partial<PolicyPod>, mode?: string, r = rules(['shop'])): string => decide(pod(over), ns(mode), r).reason;
    const everything: Partial<PolicyPod> = { hostNetwork: true, annotations: { [SIDECAR_ANNOTATION]: '' }, phase: 'Failed' };
    expect(said(everything, 'ambient')).toContain('host network');
    expect(said({ ...everything, hostNetwork: false }, 'ambient')).toContain('sidecar');
    expect(said({ phase: 'Failed' })).toContain('neither pod nor namespace');
    expect(said({ phase: 'Failed' }, 'ambient')).toBe('namespace shop is excluded by configuration');
    expect(said({ phase: 'Failed' }, 'ambient', none)).toContain('phase Failed');
  });

  it('says of a namespace what the plugin needs while the agent is away', () => {
    expect(namespaceEnrols(ns('ambient'), none)).toBe(true);
    expect(namespaceEnrols(ns('ambient'), rules(['shop']))).toBe(false);
    expect(namespaceEnrols(ns('none'), none)).toBe(false);
    expect(namespaceEnrols(ns(), none)).toBe(false);
  });

  it('goes by other selectors, and names the one that matched', () => {
    const team: EnablementSelector = {
      podSelector: { matchLabels: { app: 'web' }, matchExpressions: [{ key: 'legacy', operator: 'DoesNotExist' }] },
      namespaceSelector: { matchExpressions: [{ key: 'team', operator: 'In', values: ['a', 'b'] }] },
    };
    const ofTeam = (name: string): NamespaceRecord => ({ name: 'shop', labels: { team: name }, annotations: {} });
    const two = rules([], [{ podSelector: { matchLabels: { mesh: 'yes' } } }, team]);
    expect(decide(pod({ labels: { app: 'web' } }), ofTeam('b'), two)).toEqual({
      enrolled: true,
      reason: 'enablement selector 1: pods with app=web, no legacy in namespaces with team in (a, b)',
    });
    expect(decide(pod({ labels: { app: 'web', mesh: 'yes' } }), ofTeam('b'), two).reason).toBe(
      'enablement selector 0: pods with mesh=yes in all namespaces',
    );
    expect(decide(pod({ labels: { app: 'web' } }), ofTeam('c'), two)).toEqual({
      enrolled: false,
      reason: 'none of the 2 enablement selectors matches',
    });
    // nothing is known of the namespace: "not in" must not match for that
    expect(decide(pod({ labels: { mesh: 'yes' } }), undefined, two).enrolled).toBe(true);
    expect(decide(pod({ labels: { app: 'web' } }), undefined, two).reason).toContain('namespace shop is unknown');
    expect(decide(pod(), ns('ambient'), rules([], []))).toEqual({ enrolled: false, reason: 'there are no enablement selectors' });
    expect(decide(pod({ hostNetwork: true, labels: { mesh: 'yes' } }), ofTeam('b'), two).enrolled).toBe(false);

    expect(namespaceEnrols(ofTeam('a'), two)).toBe(true);
    expect(namespaceEnrols(ofTeam('c'), two)).toBe(false); // only pods that ask by their own label
    expect(namespaceEnrols(ofTeam('c'), rules([], [{}]))).toBe(true);
    expect(namespaceEnrols(ofTeam('c'), rules([], []))).toBe(false);
  });

  it('knows its own default when somebody spells it out', () => {
    const spelled: EnablementSelector[] = [
      { podSelector: { matchLabels: { [MODE_LABEL]: 'ambient' } }, namespaceSelector: {} },
      {
        podSelector: { matchExpressions: [{ key: MODE_LABEL, operator: 'NotIn', values: ['none'] }], matchLabels: null },
        namespaceSelector: { matchLabels: { [MODE_LABEL]: 'ambient' } },
      },
    ];
    expect(decide(pod(), ns('ambient'), rules([], spelled)).reason).toBe(`namespace label ${MODE_LABEL}=ambient`);
  });
});

describe('pod annotations', () => {
  it('override the defaults', () => {
    expect(podFlags({}, { dns: true, driver: 'ebpf' }).flags).toEqual({ dns: true, ingressMode: false, markOnly: false });
    expect(
      podFlags({ 'ambient.istio.io/dns-capture': 'F', 'ambient.istio.io/bypass-inbound-capture': '1' }, { dns: true, driver: 'ebpf' }),
    ).toEqual({
      flags: { dns: false, ingressMode: true, markOnly: false },
      driver: undefined,
      virtualInterfaces: [],
      warnings: new Map(),
    });
  });

  it('name a driver for the pod; another word counts for nothing', () => {
    const of = (value: string) => podFlags({ 'culvert.dev/redirect-driver': value }, { dns: true, driver: 'ebpf' });
    expect(of('iptables')).toMatchObject({ driver: 'iptables', warnings: new Map() });
    expect(of('Iptables').driver).toBeUndefined();
    expect([...of('Iptables').warnings.values()]).toEqual([
      'annotation culvert.dev/redirect-driver="Iptables" is none of ebpf, iptables, nftables and is ignored',
    ]);
  });

  it('name virtual interfaces, which not every driver serves', () => {
    const { warnings, virtualInterfaces } = podFlags(
      { 'istio.io/reroute-virtual-interfaces': 'eth1, docker0' },
      { dns: true, driver: 'ebpf' },
    );
    expect([...warnings.values()]).toEqual([
      'annotation istio.io/reroute-virtual-interfaces="eth1, docker0" is not supported by driver ebpf and is ignored: what comes in on these interfaces is not captured; annotation culvert.dev/redirect-driver=nftables or iptables gives the pod a driver that does',
    ]);
    expect(virtualInterfaces).toEqual(['eth1', 'docker0']);
    const served = podFlags({ 'istio.io/reroute-virtual-interfaces': 'eth1' }, { dns: true, driver: 'nftables' });
    expect([served.warnings.size, served.virtualInterfaces]).toEqual([0, ['eth1']]);
    expect(podFlags({ 'istio.io/reroute-virtual-interfaces': ' ' }, { dns: true, driver: 'ebpf' }).warnings.size).toBe(0);
  });

  it('are ignored with a warning when they are no boolean', () => {
    const { flags, warnings } = podFlags({ 'ambient.istio.io/dns-capture': 'yes' }, { dns: true, driver: 'ebpf' });
    expect(flags.dns).toBe(true);
    expect([...warnings.values()]).toEqual(['annotation ambient.istio.io/dns-capture="yes" is not a boolean and is ignored']);
  });
});
