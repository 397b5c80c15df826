/** What is written into pods, for every combination of a pod's flags. `vitest -u` writes the golden files; the diff is what to look at. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { rendered } from '../../../../src/redirect/iptables/plan.ts';
import { node, nothing, step, whole } from '../../../../src/redirect/nftables/render.ts';
import { setsMade } from '../../../../src/redirect/iptables/ipset.ts';
import type { Shape } from '../../../../src/redirect/netfilter/rules.ts';

const GOLDEN = join(import.meta.dirname, '../../../golden/netfilter');
const both = [false, true];

const shapes = both.flatMap((dns) =>
  both.flatMap((ingressMode) =>
    both.map((virtual): [string, Shape] => {
      const name = [dns ? 'dns' : '', ingressMode ? 'ingress' : '', virtual ? 'virtual' : ''].filter(Boolean).join('-') || 'plain';
      return [name, { dns, ingressMode, virtualInterfaces: virtual ? ['virt0', 'virt1'] : [] }];
    }),
  ),
);

describe.each(shapes)('%s', (name, shape) => {
  it.each([4, 6] as const)('iptables, IPv%d', async (family) => {
    await expect(rendered(shape, 'active', family)).toMatchFileSnapshot(join(GOLDEN, `iptables-${name}-v${family}.txt`));
  });

  it('nftables', async () => {
    await expect(whole(shape, 'active', [4, 6])).toMatchFileSnapshot(join(GOLDEN, `nftables-${name}.txt`));
  });

  it('captures nothing before it is active', () => {
    for (const family of [4, 6] as const) expect(rendered(shape, 'prepared', family)).not.toMatch(/REDIRECT|PRERT -j ACCEPT/);
    expect(whole(shape, 'prepared', [4, 6])).not.toContain('redirect');
  });
});

describe('nftables', () => {
  const shape: Shape = { dns: true, ingressMode: false, virtualInterfaces: [] };

  it('leaves IPv6 out where the pod has none', () => {
    expect(whole(shape, 'active', [4])).not.toMatch(/ip6|::/);
  });

  it('changes only jumps between active and draining, so that counters go on', () => {
    expect(step(shape, 'active', 'draining', [4, 6])).toBe(
      [
        'flush chain inet culvert-nat prerouting',
        'flush chain inet culvert-nat output',
        'add rule inet culvert-nat prerouting jump culvert-count',
        '',
      ].join('\n'),
    );
    expect(step(shape, 'draining', 'active', [4, 6])).not.toContain('redirect');
  });

  it('knows no step from where nothing is known', () => {
    expect(step(shape, 'none', 'active', [4, 6])).toBeUndefined();
    expect(step(shape, 'prepared', 'draining', [4, 6])).toBeUndefined();
  });

  it('is taken off by whole tables, there or not', () => {
    expect(nothing().split('\n').filter(Boolean)).toHaveLength(6);
  });
});

describe("the node's part", () => {
  const members = [
    { address: '10.0.0.2', uid: 'u-1' },
    { address: 'fd00::2', uid: 'u-1' },
  ];

  it('is rendered for both', async () => {
    await expect(node(members)).toMatchFileSnapshot(join(GOLDEN, 'nftables-node.txt'));
    await expect(setsMade(members)).toMatchFileSnapshot(join(GOLDEN, 'ipset-node.txt'));
  });

  it('takes no quotation marks from a uid', () => {
    expect(setsMade([{ address: '10.0.0.2', uid: 'a" b' }])).toContain('comment "a b"');
    expect(node([{ address: '10.0.0.2', uid: 'a" b' }])).toContain('comment "a b"');
  });
});
