/** What is timed as istio-cni's work is done: its rules are in both families, with route and rule, and gone again. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { applyAsIstioCni, removeAsIstioCni } from '../../../src/bench/istio-cni.ts';
import { must } from '../../../src/lab/command.ts';
import { createNetns, inNetns, removeNetns } from '../../../src/lab/network/netns.ts';

test('put in, seen, taken out', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'cvt-istio-cni-'));
  const netns = join(dir, 'netns');
  const jumps = async (): Promise<string[]> => {
    const saved = await Promise.all(['iptables-save', 'ip6tables-save'].map((program) => must(inNetns(netns, [program]))));
    return saved.map((text) => [...text.matchAll(/-j (ISTIO_\w+)/g)].map(([, chain]) => chain).join(' '));
  };
  const rules = async (): Promise<string> =>
    (await Promise.all(['-4', '-6'].map((family) => must(inNetns(netns, ['ip', family, 'rule']))))).join('');
  await createNetns(netns);
  try {
    expect(await applyAsIstioCni(netns, { ipv6: true, dns: true })).toBeGreaterThan(0);
    const both = Array.from({ length: 3 }, () => 'ISTIO_PRERT ISTIO_OUTPUT').join(' ');
    expect(await jumps()).toEqual([both, both]);
    expect((await rules()).match(/^32764:/gm)).toHaveLength(2);
    expect(await removeAsIstioCni(netns, { ipv6: true })).toBeGreaterThan(0);
    expect(await jumps()).toEqual(['', '']);
    expect(await rules()).not.toContain('32764:');
    await expect(applyAsIstioCni(join(dir, 'nothing'), { ipv6: true, dns: true })).rejects.toMatchObject({ code: 'NETNS_GONE' });
  } finally {
    await removeNetns(netns);
    rmSync(dir, { recursive: true });
  }
  expect(existsSync(dir)).toBe(false);
});
