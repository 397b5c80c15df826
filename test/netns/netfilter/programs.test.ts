/** What a node has to write rules with: legacy iptables, as istio-cni follows it; or nothing. */
import { execFileSync } from 'node:child_process';
import { chmodSync, closeSync, mkdirSync, openSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import type { PodTarget } from '../../../src/redirect/driver.ts';
import { createNetfilterDriver, probeNetfilter } from '../../../src/redirect/netfilter/index.ts';
import { native } from '../../../src/sys/native.ts';
import { TestNode, type TestPod } from '../../support/netns.ts';
import { inNetns } from './netns-state.ts';

const log = createLogger('test', process.env['CULVERT_TEST_LOG'] ?? 'silent');
/** Empty tables of legacy stay as long as the namespace: what counts is what is in them. */
const saved = (netnsName: string): string =>
  inNetns(netnsName, "{ iptables-legacy-save; ip6tables-legacy-save; ip rule; } | grep -v '^[#:*]\\|COMMIT' || :");

let node: TestNode;
let pod: TestPod;
beforeAll(async () => {
  node = await TestNode.create('legacy');
  pod = await node.pod('a', 2);
});
afterAll(() => node.close());

it('is refused by a probe that names the packages where the programs are missing', async () => {
  const bin = `${node.dir}/bin`;
  mkdirSync(bin);
  for (const program of ['nsenter', 'unshare'])
    symlinkSync(execFileSync('which', [program], { encoding: 'utf8' }).trim(), `${bin}/${program}`);
  const path = process.env['PATH'];
  process.env['PATH'] = bin;
  try {
    const o = { nodeNetns: node.nodeNetns, stateDir: `${node.dir}/probe`, log };
    expect(await probeNetfilter('iptables', o)).toEqual({
      usable: false,
      reasons: ['iptables is not installed (package iptables)', 'ipset is not installed (package ipset)'],
    });
    expect(await probeNetfilter('nftables', o)).toEqual({ usable: false, reasons: ['nft is not installed (package nftables)'] });
    await expect(createNetfilterDriver({ ...o, kind: 'nftables' })).rejects.toMatchObject({ code: 'KERNEL_UNSUPPORTED' });
  } finally {
    process.env['PATH'] = path;
  }
});

it('is followed where the node has legacy rules, and leaves nothing of them', async () => {
  inNetns(`${node.prefix}-node`, 'iptables-legacy -A FORWARD -j ACCEPT; ip6tables-legacy -A FORWARD -j ACCEPT');
  const before = [saved(pod.netnsName), saved(`${node.prefix}-node`)];
  const driver = await createNetfilterDriver({ kind: 'iptables', nodeNetns: node.nodeNetns, stateDir: `${node.dir}/netfilter`, log });
  const netnsFd = openSync(pod.netns, 'r');
  try {
    const netnsCookie = native.netnsCookie(netnsFd);
    const flags = { dns: true, ingressMode: false, markOnly: true };
    const target = { uid: 'u-a', namespace: 'shop', name: 'a', netnsFd, netnsCookie, netnsPath: pod.netns, flags };
    await driver.prepare(target);
    expect(saved(pod.netnsName)).not.toContain('REDIRECT');
    await driver.activate(netnsCookie);
    expect(saved(pod.netnsName).match(/REDIRECT --to-ports 15001/g)).toHaveLength(2);
    expect(saved(`${node.prefix}-node`)).toContain('--socket-exists');
    expect(driver.faults(target, [pod.ip4])).toEqual(['the tunnel has no listener on 15001']);
    inNetns(pod.netnsName, 'iptables-legacy -t nat -F');
    expect(driver.faults(target, [pod.ip4]).join()).toContain('outbound-v4 is missing');
    await driver.reconcile(target);
    expect(driver.faults(target, [pod.ip4])).toEqual(['the tunnel has no listener on 15001']);
    await driver.drain(netnsCookie);
    await driver.remove(netnsCookie, netnsFd, 0);
    expect([saved(pod.netnsName), saved(`${node.prefix}-node`)]).toEqual(before);
  } finally {
    driver.close();
    closeSync(netnsFd);
  }
});

const targetOf = (of: TestPod, netnsFd: number, uid: string): PodTarget => ({
  uid,
  namespace: 'shop',
  name: of.name,
  netnsFd,
  netnsCookie: native.netnsCookie(netnsFd),
  netnsPath: of.netns,
  flags: { dns: true, ingressMode: false, markOnly: true },
});

it('starts although the rules of one pod cannot be read, which counts as captured until it is known', async () => {
  const o = { kind: 'nftables', nodeNetns: node.nodeNetns, stateDir: `${node.dir}/unread`, log } as const;
  const other = await node.pod('b', 3);
  const fds = [pod, other].map(({ netns }) => openSync(netns, 'r'));
  const targets = [pod, other].map((each, i) => targetOf(each, fds[i] ?? -1, `u-${each.name}`));
  const first = await createNetfilterDriver(o);
  for (const target of targets) await first.prepare(target);
  first.close();
  inNetns(other.netnsName, 'nft flush ruleset'); // it is there all the same: in the node's set, and in our records
  const bin = `${node.dir}/broken`;
  mkdirSync(bin);
  const nft = execFileSync('which', ['nft'], { encoding: 'utf8' }).trim();
  const broken = `[ "$(readlink /proc/self/ns/net)" = "net:[${statSync(pod.netns).ino}]" ] && { echo odd rules >&2; exit 1; }`;
  writeFileSync(`${bin}/nft`, `#!/bin/sh\n${broken}\nexec ${nft} "$@"\n`);
  chmodSync(`${bin}/nft`, 0o755);
  const path = process.env['PATH'];
  process.env['PATH'] = `${bin}:${path ?? ''}`;
  const again = await createNetfilterDriver(o).finally(() => (process.env['PATH'] = path));
  try {
    expect(again.snapshot().toSorted((a, b) => (a.name < b.name ? -1 : 1))).toMatchObject([
      { name: 'a', state: 'active' },
      { name: 'b', state: 'prepared' },
    ]);
    for (const { netnsCookie, netnsFd } of targets) {
      await again.drain(netnsCookie);
      await again.remove(netnsCookie, netnsFd, 0);
    }
    for (const each of [pod, other]) expect(inNetns(each.netnsName, 'nft list ruleset')).toBe('');
  } finally {
    again.close();
    fds.forEach(closeSync);
  }
});

it('closed while it looks at pods: nothing is done any more, and nothing complained of', async () => {
  const complaints: string[] = [];
  const heard = pino({ level: 'warn' }, { write: (line: string) => complaints.push(line) });
  const o = { kind: 'nftables', nodeNetns: node.nodeNetns, stateDir: `${node.dir}/closed`, log: heard } as const;
  const netnsFd = openSync(pod.netns, 'r');
  const target = targetOf(pod, netnsFd, 'u-a');
  try {
    const driver = await createNetfilterDriver(o);
    await driver.prepare(target);
    const [looking, counting] = [driver.recheckPods(), driver.countersOfAll?.()];
    driver.close();
    await Promise.all([looking, counting]);
    expect(complaints).toEqual([]);
  } finally {
    const driver = await createNetfilterDriver(o);
    await driver.remove(target.netnsCookie, netnsFd, 0);
    driver.close();
    closeSync(netnsFd);
  }
});

it.each(['iptables', 'nftables'] as const)('%s takes any uid for a comment, and leaves no rule on a node without pods', async (kind) => {
  const o = { kind, nodeNetns: node.nodeNetns, stateDir: `${node.dir}/uid-${kind}`, log };
  const onNode = (): string => inNetns(`${node.prefix}-node`, 'nft list ruleset; ipset list; iptables-legacy-save | grep CULVERT || :');
  const before = onNode();
  const netnsFd = openSync(pod.netns, 'r');
  const target = targetOf(pod, netnsFd, `u"; }\nflush ruleset ${'x'.repeat(100)}`);
  const first = await createNetfilterDriver(o);
  await first.prepare(target);
  expect(onNode()).toContain('"u_____flush_ruleset_x');
  first.close();
  for (const record of readdirSync(`${o.stateDir}/netns`)) rmSync(`${o.stateDir}/netns/${record}`); // as for pods that went meanwhile
  const again = await createNetfilterDriver(o);
  try {
    expect(onNode()).toBe(before);
    await again.prepare(target); // whose rules are still there
    await again.remove(target.netnsCookie, netnsFd, 0);
    expect(onNode()).toBe(before);
  } finally {
    again.close();
    closeSync(netnsFd);
  }
});
