/** What differs from a redirect by iptables rules, as docs/differences.md tells it: what happens, and how it is seen. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { codeOf, SocketProcess } from '../../support/bpf-sockets.ts';
import { settingsOf } from '../../support/netns.ts';
import { eventually } from '../redirect/scene.ts';
import { AttackScene, PORT, PRIVILEGES } from '../identity/attacker.ts';

const NESTED = '10.99.0.2';
let a: AttackScene;
let app: SocketProcess;
beforeAll(async () => {
  a = await AttackScene.create();
  app = a.start('app', PRIVILEGES['root of a container']);
});
afterAll(() => a.close());

/** A container inside the pod: a netns of its own behind a veth, the pod forwards. */
async function withNested(use: (inside: SocketProcess) => Promise<void>): Promise<void> {
  const { node } = a.scene;
  const name = `${node.prefix}-nested`;
  execFileSync('ip', ['netns', 'add', name]);
  try {
    await node.ipIn(
      a.pod.netnsName,
      `link add inner0 type veth peer name eth0 netns ${name}`,
      'link set inner0 up',
      'addr add 10.99.0.1/24 dev inner0',
    );
    await node.ipIn(name, 'link set eth0 up', `addr add ${NESTED}/24 dev eth0`, 'route add default via 10.99.0.1');
    await node.ipIn(a.outsidePod.netnsName, `route add 10.99.0.0/24 via ${a.pod.ip4}`);
    await node.sysctl(a.pod, 'net/ipv4/ip_forward', '1');
    const inside = SocketProcess.start(node.cgroupPath('app'), `/run/netns/${name}`);
    await use(inside).finally(() => inside.kill());
  } finally {
    execFileSync('ip', ['netns', 'del', name]);
  }
}

test('a container inside the pod: its connections pass the tunnel by, both ways, and the pod says so', () =>
  withNested(async (inside) => {
    expect(await a.warnings()).toEqual([]);
    const told: bigint[] = [];
    const listening = a.scene.driver.onWarnings((cookie) => told.push(cookie));
    const fd = await inside.socket(4);
    expect(await a.reasons(() => inside.connect(fd, { address: a.outsidePod.ip4, port: PORT }))).toEqual({});
    expect(await a.outsideWasReached()).toBe(true);
    const listener = await inside.listen(80);
    const inwards = await a.outside.socket(4);
    expect(await a.reasons(() => a.outside.connect(inwards, { address: NESTED, port: 80 }))).toEqual({});
    expect((await inside.accept(listener)).peer.address).toBe(`::ffff:${a.outsidePod.ip4}`);
    await a.outside.close(inwards);
    await a.scene.driver.recheckPods();
    expect(await a.warnings()).toEqual([
      expect.stringMatching(/^its network namespace forwards packets .*culvert\.dev\/redirect-driver=iptables/),
    ]);
    expect(told).toEqual([a.cookie]);
    listening.close();
  }));

test('a SYN of a raw socket (CAP_NET_RAW) leaves as it is', async () => {
  const sniffer = await a.outside.socket(4, 'raw');
  const raw = await app.socket(4, 'raw');
  await app.call('syn', raw, a.pod.ip4, 40000, a.outsidePod.ip4, PORT + 1);
  expect((await a.outside.receiveFrom(sniffer)).address).toBe(a.pod.ip4);
  await a.outside.close(sniffer);
  await app.close(raw);
});

test('two resolvers asked on one unconnected socket: both answers seem to come from the one asked last', async () => {
  const resolver = await a.tunnel.socket(6, 'udp');
  await a.tunnel.bind(resolver, { address: '::', port: 15053 });
  const fd = await app.socket(4, 'udp');
  const queries = [];
  for (const address of ['10.0.0.53', '10.0.0.54']) {
    await app.sendTo(fd, { address, port: 53 }, address);
    queries.push(await a.tunnel.receiveFrom(resolver));
  }
  const answers = [];
  for (const query of queries) {
    await a.tunnel.sendTo(resolver, query, query.text);
    answers.push(await app.receiveFrom(fd));
  }
  expect(answers).toEqual([
    { address: '10.0.0.54', port: 53, text: '10.0.0.53' },
    { address: '10.0.0.54', port: 53, text: '10.0.0.54' },
  ]);
  await a.tunnel.close(resolver);
  await app.close(fd);
});

test('what the app accepts through the tunnel has mark 0x111; what it accepts beside it has none', async () => {
  const listener = await app.listen(PORT);
  const marks: number[] = [];
  const accepted = async (): Promise<void> => {
    const { fd, peer } = await app.accept(listener);
    expect(peer.address).toContain('10.77.');
    marks.push(await app.mark(fd));
    await app.close(fd);
  };
  const client = await a.tunnel.socket(4);
  await a.tunnel.setMark(client, 0x539);
  await a.tunnel.transparent(client, 4);
  await a.tunnel.bind(client, { address: a.outsidePod.ip4, port: 0 });
  await a.tunnel.connect(client, { address: a.pod.ip4, port: PORT });
  await accepted();
  const kubelet = SocketProcess.start(a.scene.node.cgroupPath('kubelet'), a.scene.node.nodeNetns);
  await kubelet.connect(await kubelet.socket(4), { address: a.pod.ip4, port: PORT });
  await accepted();
  await kubelet.kill();
  expect(marks).toEqual([0x111, 0]);
  await a.tunnel.close(client);
  await app.close(listener);
});

async function withRules(rules: string, use: () => Promise<void>): Promise<void> {
  const nft = (input: string): unknown => execFileSync('ip', ['netns', 'exec', a.pod.netnsName, 'nft', '-f', '-'], { input });
  nft(`table ip own { chain one { ${rules}; }; }`);
  await use().finally(() => nft('delete table ip own'));
}

test("the app's own DNAT comes before the tunnel, which sees the port that was turned to", () =>
  withRules('type nat hook prerouting priority -100; tcp dport 90 redirect to :91', async () => {
    const fd = await a.outside.socket(4);
    await a.outside.connect(fd, { address: a.pod.ip4, port: 90 });
    const accepted = await a.tunnel.accept(a.listening.inbound);
    expect((await a.tunnel.name(accepted.fd)).port).toBe(91);
    await a.tunnel.close(accepted.fd);
    await a.outside.close(fd);
  }));

test('an app with NET_ADMIN that rewrites marks gets its own connections past the tunnel', () =>
  withRules('type route hook output priority -150; meta mark & 0xfff == 0x111 meta mark set 0', async () => {
    const fd = await app.socket(4);
    await app.connect(fd, { address: a.outsidePod.ip4, port: PORT });
    expect(await a.outsideWasReached()).toBe(true);
    await app.close(fd);
  }));

test('sysctls that are reset are put back at the next look', async () => {
  const settings = settingsOf(a.pod.netnsName);
  for (const path of ['net/ipv4/tcp_fwmark_accept', 'net/ipv6/fwmark_reflect']) await a.scene.node.sysctl(a.pod, path, '0');
  await a.scene.driver.recheckPods();
  expect(settingsOf(a.pod.netnsName)).toBe(settings);
  expect(await a.warnings()).toContainEqual(expect.stringMatching(/^rules, routes or sysctls of the mesh were deleted/));
  expect(a.scene.driver.tallies(a.cookie)).toContainEqual(
    expect.objectContaining({ reason: 'restored', count: a.scene.driver.restored(a.cookie) }),
  );
});

test('rules that an app with NET_ADMIN deletes again and again come back each time, and are counted', async () => {
  const before = a.scene.driver.restored(a.cookie);
  for (let i = before + 1; i <= before + 3; i++) {
    await a.scene.node.ipIn(a.pod.netnsName, 'rule del pref 32764');
    await eventually('the rule is back', () => a.scene.driver.restored(a.cookie) >= i);
    const fd = await app.socket(4);
    await app.connect(fd, { address: a.outsidePod.ip4, port: PORT });
    expect(await a.reached()).toBe('tunnel');
    await app.close(fd);
  }
});

test('a link-local destination is refused, not reached past the tunnel', async () => {
  const [{ addr_info }] = JSON.parse(
    execFileSync('ip', ['-j', '-n', a.outsidePod.netnsName, '-6', 'addr', 'show', 'dev', 'eth0'], { encoding: 'utf8' }),
  ) as [{ addr_info: { local: string; scope: string }[] }];
  const { local } = addr_info.find(({ scope }) => scope === 'link')!;
  const fd = await app.socket(6);
  await app.call('device', fd, 'eth0');
  expect(await codeOf(app.connect(fd, { address: local, port: PORT }))).toBe('EHOSTUNREACH');
  expect(await a.outsideWasReached()).toBe(false);
  await app.close(fd);
});
