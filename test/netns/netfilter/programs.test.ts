/** What a node has to write rules with: legacy iptables, as istio-cni follows it; or nothing. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, symlinkSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
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
