/** Pods behind rules of iptables and of nftables, with our own tunnel: what applications see, and what is left when they have gone. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../../src/base/log.ts';
import type { RedirectDriver } from '../../../src/redirect/driver.ts';
import { createNetfilterDriver, probeNetfilter, uninstallNetfilter, type NetfilterOptions } from '../../../src/redirect/netfilter/index.ts';
import { shelter } from '../../../src/redirect/istio-cni/shelter.ts';
import { Netns } from '../../../src/sys/netns.ts';
import { connect } from '../../../src/sys/socket.ts';
import { PORTS } from '../tunnel/app.ts';
import { eventually, TunnelScene, type App, type Pod } from '../tunnel/scene.ts';
import { inNetns, netnsState } from './netns-state.ts';
import { askTcp, askUdp, resolver } from './questions.ts';

const log = createLogger('test', process.env['CULVERT_TEST_LOG'] ?? 'silent');
const FAMILIES = ['ip4', 'ip6'] as const;
const mapped = (ip: string): string => (ip.includes(':') ? ip : `::ffff:${ip}`);

describe.each(['iptables', 'nftables'] as const)('%s', (kind) => {
  let scene: TunnelScene;
  let options: NetfilterOptions;
  let client: Pod;
  let web: Pod;
  let plain: Pod;
  let onClient: App;
  let onPlain: App;
  let onNode: App;
  const before = new Map<string, string>();
  const names = (): string[] => [...[client, web, plain].map(({ netnsName }) => netnsName), `${scene.node.prefix}-node`];

  beforeAll(async () => {
    scene = await TunnelScene.create((node) => {
      options = { kind, nodeNetns: node.nodeNetns, stateDir: `${node.dir}/netfilter`, log };
      return createNetfilterDriver(options);
    });
    await Promise.all([scene.tunnel('node1'), scene.tunnel('node2')]);
    client = await scene.pod('client', 'node1');
    web = await scene.pod('web', 'node2');
    plain = await scene.pod('plain', 'node2');
    for (const name of names()) before.set(name, netnsState(name));
    await scene.enrol(client);
    await scene.enrol(web);
    onClient = await scene.app(client);
    onPlain = await scene.app(plain);
    onNode = await scene.app({ ...plain, netns: scene.node.nodeNetns });
    const onWeb = await scene.app(web);
    await onWeb.call('serve', {});
    await onPlain.call('serve', {});
  });

  /** Peers send plaintext to a pod that leaves once they have seen it. */
  const learned = async (pod: Pod): Promise<void> => {
    pod.enrolled = false;
    scene.writeMesh();
    await eventually('tunnels know', async () => {
      const dumps = await Promise.all(['node1', 'node2'].map((node) => scene.dump(node)));
      return dumps.every(({ workloads }) =>
        workloads.every((w) => (w as { name: string }).name !== pod.name || (w as { protocol: string }).protocol !== 'HBONE'),
      );
    });
  };

  afterAll(async () => {
    try {
      for (const pod of before.size === 0 ? [] : [client, web]) {
        await scene.driver.remove(pod.cookie, pod.netnsFd, 0);
        await scene.driver.remove(pod.cookie, pod.netnsFd, 0);
      }
      expect(scene.driver.snapshot()).toEqual([]);
      for (const [name, state] of before) expect(netnsState(name), name).toBe(state);
    } finally {
      await scene.close();
    }
  });

  it('can be used here, and says what it is weaker in', async () => {
    expect(await probeNetfilter(kind, options)).toEqual({ usable: true, reasons: [] });
    expect(scene.driver.reasons).toEqual([expect.stringContaining('0x539')]);
    expect(scene.driver.faults(scene.targetOf(client), [client.ip4, client.ip6])).toEqual([]);
  });

  describe.each(FAMILIES)('%s', (family) => {
    it('goes through HBONE between captured pods, the client seen', async () => {
      const target = { host: web[family], port: PORTS.echo };
      const hbone = await scene.driver.hboneAccepted(web.cookie);
      expect(await onClient.call('echo', target)).toMatchObject({ ok: true, remote: mapped(client[family]) });
      expect(await scene.driver.hboneAccepted(web.cookie)).toBeGreaterThanOrEqual(hbone);
      expect(await onClient.call('first', { ...target, port: PORTS.first })).toEqual({ text: 'welcome' });
      expect(await onClient.call('tail', { ...target, port: PORTS.tail })).toEqual({ text: 'after the end: half' });
      expect(await onClient.call('reset', { ...target, port: PORTS.reset })).toEqual({ code: 'ECONNRESET' });
    });

    it('goes plain to and from pods outside the mesh, addresses kept', async () => {
      const out = await onClient.call('echo', { host: plain[family], port: PORTS.echo });
      expect(out).toMatchObject({ ok: true, remote: mapped(client[family]) });
      const counted = scene.driver.counters(web.cookie).inboundRedirected;
      const into = await onPlain.call('echo', { host: web[family], port: PORTS.echo });
      expect(into).toMatchObject({ ok: true, remote: mapped(plain[family]) });
      expect(scene.driver.counters(web.cookie).inboundRedirected).toBe(counted + 1);
    });

    it("lets the node's own connections pass, from the address that is exempt", async () => {
      const remote = family === 'ip4' ? mapped('169.254.7.127') : 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff';
      // the way back to that address is the pod's default route, as in a cluster
      expect(await onNode.call('echo', { host: web[family], port: PORTS.echo })).toMatchObject({ ok: true, remote });
      expect(scene.driver.counters(web.cookie).inboundPassed['exempt']).toBeGreaterThan(0);
    });

    it("refuses the pod's own doors", async () => {
      for (const port of [15001, 15006, 15008]) {
        expect(await onClient.call('echo', { host: web[family], port })).toMatchObject({ ok: false });
        expect(await onPlain.call('echo', { host: web[family], port })).toMatchObject({ ok: false });
      }
    });
  });

  it('refuses everybody but the node where no tunnel listens', async () => {
    const target = scene.targetOf(plain);
    await scene.driver.prepare(target);
    expect((await onClient.call('echo', { host: plain.ip4, port: PORTS.echo })).ok).toBe(true);
    await scene.driver.activate(target.netnsCookie);
    try {
      for (const family of FAMILIES) {
        const there = { host: plain[family], port: PORTS.echo };
        expect((await onClient.call('echo', there)).ok).toBe(false);
        expect((await onNode.call('echo', there)).ok).toBe(true);
        expect(await onPlain.call('echo', { host: web[family], port: PORTS.echo })).toMatchObject({ ok: false, error: 'ECONNREFUSED' });
      }
    } finally {
      await scene.driver.remove(target.netnsCookie, plain.netnsFd, 0);
    }
  });

  it('serves a pod without IPv6', async () => {
    const old = await scene.pod('old', 'node2', { ipv6: false });
    const untouched = netnsState(old.netnsName);
    await scene.enrol(old);
    const onOld = await scene.app(old);
    await onOld.call('serve', {});
    expect(await onClient.call('echo', { host: old.ip4, port: PORTS.echo })).toMatchObject({ ok: true, remote: mapped(client.ip4) });
    expect(await onOld.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true, remote: mapped(old.ip4) });
    expect(scene.driver.faults(scene.targetOf(old), [old.ip4])).toEqual([]);
    await leave(scene, old);
    expect(netnsState(old.netnsName)).toBe(untouched);
  });

  it('tells of new connections by conntrack: which are redirected, and which are not', async () => {
    const told: string[] = [];
    const events = scene.driver.onEvent(({ cookie, direction, verdict, reason, src, dst }) => {
      const pod = cookie === client.cookie ? 'client' : cookie === web.cookie ? 'web' : 'nobody';
      told.push(`${pod} ${direction} ${verdict} ${reason} ${src?.replace(/:\d+$/, '') ?? ''} ${dst}`);
    });
    try {
      await onClient.call('echo', { host: plain.ip4, port: PORTS.echo });
      await onPlain.call('echo', { host: web.ip6, port: PORTS.echo });
      await onNode.call('echo', { host: web.ip4, port: PORTS.echo });
      const expected = [
        `client outbound redirected accepted ${client.ip4} ${plain.ip4}:${PORTS.echo}`,
        `web inbound redirected tunnel [${plain.ip6}] [${web.ip6}]:${PORTS.echo}`,
        `web inbound passed inner [${plain.ip6}] [${web.ip6}]:${PORTS.echo}`,
        `web inbound passed exempt 169.254.7.127 ${web.ip4}:${PORTS.echo}`,
      ];
      await vi.waitFor(() => expect(told).toEqual(expect.arrayContaining(expected)));
    } finally {
      events.close();
    }
  });

  it('reads and counts rules that it has read before without a process', async () => {
    const target = { host: web.ip4, port: PORTS.echo };
    const counted = scene.driver.counters(client.cookie).outboundRedirected;
    await onClient.call('echo', target);
    const path = process.env['PATH'];
    process.env['PATH'] = scene.node.dir; // where there is no program
    try {
      expect(scene.driver.counters(client.cookie).outboundRedirected).toBe(counted + 1);
      expect((await scene.driver.countersOfAll?.())?.get(client.cookie)?.outboundRedirected).toBe(counted + 1);
      expect(scene.driver.faults(scene.targetOf(client), [])).toEqual([]);
    } finally {
      process.env['PATH'] = path;
    }
    inNetns(
      client.netnsName,
      kind === 'iptables' ? 'iptables -t nat -A CULVERT_OUTPUT -j ACCEPT' : 'nft add rule inet culvert-nat culvert-output accept',
    );
    expect(scene.driver.faults(scene.targetOf(client), [])).toEqual([expect.stringMatching(/a rule is not ours/)]);
    await scene.driver.recheckPods();
    expect(scene.driver.faults(scene.targetOf(client), [])).toEqual([]);
  });

  it('reaches a service by its virtual address', async () => {
    expect(await onClient.call('echo', { host: '10.99.0.2', port: 80 })).toMatchObject({ ok: true, remote: mapped(client.ip4) });
  });

  it('loses no connection while pods join and leave under load, neither out of them nor into them', async () => {
    const target = { host: web.ip4, port: PORTS.echo, count: 800, parallel: 4 };
    const loads = [
      { pod: client, load: onClient.call('many', target) },
      { pod: web, load: onPlain.call('many', target) },
    ];
    await Promise.all(
      [client, web].map(async (pod) => {
        for (let i = 0; i < 2; i++) {
          await scene.driver.drain(pod.cookie);
          await scene.driver.drain(pod.cookie);
          expect(scene.driver.snapshot().find(({ cookie }) => cookie === pod.cookie)?.state).toBe('draining');
          await learned(pod);
          // what the steps of enrolment do: captured connections may end by themselves
          await eventually('captured connections end', () => scene.driver.captured(pod.netnsFd) === 0);
          await leave(scene, pod);
          await scene.enrol(pod);
        }
      }),
    );
    for (const { pod, load } of loads) {
      const { ok, errors } = await load;
      expect({ pod: pod.name, ok, errors }).toEqual({ pod: pod.name, ok: 800, errors: {} });
    }
  });

  it('captures nothing inbound in ingress mode, and HBONE still arrives', async () => {
    await leave(scene, web);
    await scene.enrol(web, { flags: { dns: false, ingressMode: true, markOnly: false } });
    expect(await onPlain.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true, remote: mapped(plain.ip4) });
    expect(scene.driver.tallies(web.cookie).filter(({ direction, reason }) => direction === 'inbound' && reason === 'tunnel')).toEqual([]);
    expect(await onClient.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true });
    await leave(scene, web);
    await scene.enrol(web);
  });

  it('takes what comes in on a virtual interface for outbound', async () => {
    const nested = `${scene.node.prefix}-nested`;
    const fd = await nestedNetns(client, nested);
    try {
      await leave(scene, client);
      await scene.enrol(client, { virtualInterfaces: ['virt0'] });
      const socket = await connect(fd, { family: 4, type: 'tcp', destination: { address: web.ip4, port: PORTS.first }, timeoutMs: 2000 });
      let text = '';
      for await (const chunk of socket) text += String(chunk);
      socket.end();
      expect(text).toBe('welcome');
      expect(scene.driver.tallies(client.cookie)).toMatchObject([{ direction: 'outbound', reason: 'tunnel', count: 1 }]);
    } finally {
      closeSync(fd);
      await scene.node.ipIn(client.netnsName, 'link del virt0');
      execFileSync('ip', ['netns', 'del', nested]);
      await leave(scene, client);
      await scene.enrol(client);
    }
  });

  it('captures DNS over UDP and TCP where the tunnel answers it, and only there', async () => {
    const server = await resolver(plain.netnsFd);
    try {
      const target = { ...scene.targetOf(plain), flags: { dns: true, ingressMode: false, markOnly: false } };
      await scene.driver.prepare(target);
      expect(await askUdp(plain.netnsFd, '10.77.0.99')).toBeUndefined();
      await scene.driver.activate(target.netnsCookie);
      expect(await askUdp(plain.netnsFd, '10.77.0.99')).toEqual({ text: '15053 who', from: '10.77.0.99 53' });
      expect(await askUdp(plain.netnsFd, 'fd77::99')).toEqual({ text: '15053 who', from: 'fd77::99 53' });
      expect(await askTcp(plain.netnsFd, '10.77.0.99')).toBe('15053 who');
      expect(await askTcp(plain.netnsFd, 'fd77::99')).toBe('15053 who');
      const counted = scene.driver.tallies(target.netnsCookie).map(({ reason, count }) => [reason, count]);
      expect(counted).toEqual(
        expect.arrayContaining([
          ['dns-udp', 2],
          ['dns-tcp', 2],
        ]),
      );
      server.close();
      await scene.driver.recheckPods();
      expect(netnsState(plain.netnsName)).toContain('15053'); // whatever becomes of the listener
      await scene.driver.drain(target.netnsCookie);
      expect(await askUdp(plain.netnsFd, '10.77.0.99')).toBeUndefined();
    } finally {
      server.close();
      await scene.driver.remove(scene.targetOf(plain).netnsCookie, plain.netnsFd, 0);
    }
    await scene.enrol(plain, { flags: { dns: true, ingressMode: false, markOnly: false } });
    expect(netnsState(plain.netnsName)).not.toContain('15053');
    await leave(scene, plain);
  });

  it('notices and repairs what an administrator of the pod took away', async () => {
    const target = scene.targetOf(client);
    inNetns(
      client.netnsName,
      kind === 'iptables' ? 'iptables -t nat -F; ip6tables -t mangle -F; ip rule del pref 32764' : 'nft flush ruleset',
    );
    const faults = scene.driver.faults(target, []);
    expect(faults).not.toEqual([]);
    const counted = scene.driver.counters(client.cookie).outboundRedirected;
    expect(await scene.driver.reconcile(target)).toMatchObject({ state: 'active' });
    expect(scene.driver.faults(target, [])).toEqual([]);
    expect(await onClient.call('echo', { host: web.ip4, port: PORTS.echo })).toMatchObject({ ok: true, remote: mapped(client.ip4) });
    expect(scene.driver.counters(client.cookie).outboundRedirected).toBeGreaterThan(counted);
  });

  it('is taken up by the next run of the agent, and taken off without one', async () => {
    const second: RedirectDriver = await createNetfilterDriver(options);
    expect(second.readAll().tallies.some(({ cookie, reason }) => cookie === client.cookie && reason === 'tunnel')).toBe(true);
    const states = second
      .snapshot()
      .map(({ uid, state }) => `${uid} ${state}`)
      .sort();
    second.close();
    expect(states).toEqual(['uid-client active', 'uid-web active']);
    shelter(Netns.adopt(client.netnsFd)); // as an agent does that keeps istio-cni's rules
    expect((await uninstallNetfilter({ ...options, deadlineMs: 0 })).sort()).toEqual(['shop/client', 'shop/web']);
    for (const name of names()) expect(netnsState(name), name).toBe(before.get(name));
  });
});

/** A netns behind the pod, as a virtual machine in it would be. @returns its descriptor */
async function nestedNetns(pod: Pod, name: string): Promise<number> {
  execFileSync('ip', ['netns', 'add', name]);
  inNetns(
    pod.netnsName,
    `ip link add virt0 type veth peer name eth0 netns /var/run/netns/${name} && ip addr add 192.168.77.1/24 dev virt0 && ip link set virt0 up`,
  );
  inNetns(name, 'ip addr add 192.168.77.2/24 dev eth0 && ip link set eth0 up && ip route add default via 192.168.77.1');
  inNetns(pod.netnsName, 'echo 1 > /proc/sys/net/ipv4/ip_forward');
  return Promise.resolve(openSync(`/var/run/netns/${name}`, 'r'));
}

async function leave(scene: TunnelScene, pod: Pod): Promise<void> {
  await scene.driver.drain(pod.cookie);
  await scene.servers.get(pod.node)!.del(`uid-${pod.name}`);
  await scene.driver.remove(pod.cookie, pod.netnsFd, 3000);
  pod.cookie = 0n;
  pod.enrolled = false;
  scene.writeMesh();
}
