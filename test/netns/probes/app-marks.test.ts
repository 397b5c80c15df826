/** Listeners of an app with a mark of their own: which of them get no inbound, and that it is told. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DatapathEvent } from '../../../src/redirect/driver.ts';
import { openEvents } from '../../../src/redirect/ebpf/events.ts';
import { Settings } from '../../../src/redirect/ebpf/settings.ts';
import { codeOf, SocketProcess } from '../../support/bpf-sockets.ts';
import type { Endpoint, TestPod } from '../../support/netns.ts';
import { eventually, Scene } from '../redirect/scene.ts';

let scene: Scene;
let tunnel: Endpoint;
let client: Endpoint;
let pod: TestPod;
let app: SocketProcess;
let cookie: bigint;
const told: bigint[] = [];

beforeAll(async () => {
  scene = await Scene.create();
  scene.driver.onWarnings((of) => told.push(of));
  [tunnel, client] = [await scene.tunnel(), await scene.app(await scene.node.pod('client', 3))];
  pod = await scene.node.pod('marked', 2);
  app = SocketProcess.start(scene.node.cgroupPath('app'), pod.netns);
  // there before the pod is enrolled
  await listen(7000, 0x10, '0.0.0.0');
  await listen(7001, 0x1111, '::'); // its low bits are ours: answers stay in the pod, whoever asked
  await listen(7002, 0, '::');
  cookie = await scene.enrol(pod, tunnel);
});
afterAll(async () => {
  await app.kill();
  await scene.close();
});

async function listen(port: number, mark: number, address: string): Promise<number> {
  const fd = await app.socket(address.includes(':') ? 6 : 4);
  await app.setMark(fd, mark);
  await app.bind(fd, { address, port });
  await app.call('listen', fd);
  return fd;
}

const THROUGH = 'that come through the tunnel';
const BESIDE = "that pass the tunnel by, kubelet's probes for one,";
const sentence = (port: number, mark: string, who = THROUGH): string =>
  `listener on port ${port} has mark ${mark}: connections ${who} cannot reach it; take the mark (SO_MARK) off that listener, or have the pod redirected by rules with annotation culvert.dev/redirect-driver=nftables (or iptables)`;

/** of those that are there all the time */
const before = (): string[] => [sentence(7000, '0x10'), sentence(7001, '0x1111', BESIDE)];

test('one that was there before is found, and told once', async () => {
  await eventually('somebody was told', () => told.length > 0);
  expect(told).toEqual([cookie]);
  expect(await scene.warnings(pod, cookie)).toEqual(before());
  await scene.driver.recheckPods();
  expect(told).toEqual([cookie]);
});

test('what the warning says is so: that port gets nothing through the tunnel, the others do', async () => {
  expect((await client.call('connect', { host: pod.ip4, port: 7000, timeoutMs: 500 })).ok).toBe(false);
  const fd = await app.listen(7003);
  const connected = client.call('open', { name: 'through', host: pod.ip4, port: 7003, timeoutMs: 1000 });
  const accepted = await app.accept(fd);
  expect(accepted.peer.address).toContain('10.77.0.3');
  await app.close(accepted.fd, fd);
  await connected;
});

test('with our own mark it is the other way round: the tunnel reaches it, the node does not', async () => {
  const kubelet = SocketProcess.start(scene.node.cgroupPath('kubelet'), scene.node.nodeNetns);
  const attempt = async (port: number): Promise<string | undefined> => {
    const fd = await kubelet.socket(4);
    const code = await codeOf(kubelet.connect(fd, { address: pod.ip4, port }, 500));
    await kubelet.close(fd);
    return code;
  };
  expect(await Promise.all([7001, 7002].map(attempt))).toEqual(['ETIMEDOUT', undefined]);
  await kubelet.kill();
});

test('one that starts is seen at once, without anybody watching events; it is forgotten when it closes', async () => {
  told.length = 0;
  const fd = await listen(7004, 0x20, '::');
  await eventually('somebody was told', () => told.length > 0);
  expect(await scene.warnings(pod, cookie)).toEqual([...before(), sentence(7004, '0x20')]);
  await app.close(fd);
  await scene.driver.recheckPods();
  expect(told).toEqual([cookie, cookie]);
  expect(await scene.warnings(pod, cookie)).toEqual(before());
});

test('a watcher gets the event with the port', async () => {
  const events: DatapathEvent[] = [];
  const subscription = scene.driver.onEvent((event) => events.push(event));
  await app.close(await listen(7005, 0x30, '::'));
  await eventually('the event', () => events.some(({ reason }) => reason === 'app-mark'));
  subscription.close();
  expect(events.find(({ reason }) => reason === 'app-mark')).toMatchObject({
    cookie,
    direction: 'other',
    verdict: 'other',
    dst: '[::]:7005',
  });
});

test('many of them are a few sentences', async () => {
  const fds = [];
  for (let i = 0; i < 20; i++) fds.push(await listen(7020 + i, 0x20, '::'));
  const sentences = await scene.warnings(pod, cookie);
  expect(sentences).toHaveLength(9);
  expect(sentences[0]).toBe(sentence(7000, '0x10'));
  expect(sentences[8]).toMatch(/^14 more listeners have marks of their own/);
  await app.close(...fds);
});

test('a mark that is set after listen(2) is found at the next look', async () => {
  const fd = await app.listen(7006);
  await app.setMark(fd, 0x40);
  await scene.driver.recheckPods();
  expect(await scene.warnings(pod, cookie)).toContain(sentence(7006, '0x40'));
  await app.close(fd);
});

test('an app that starts one after the other costs one look at its pod, not one each', async () => {
  scene.driver.close();
  for (let i = 0; i < 30; i++) await app.close(await listen(7010 + i, 0x20, '::'));
  const maps = scene.maps();
  const looks: bigint[] = [];
  const stream = openEvents(maps, new Settings(maps), (of) => looks.push(of));
  await eventually('it was looked at', () => looks.length > 0);
  stream.close();
  maps.close();
  expect(looks).toEqual([cookie]);
  scene.driver = scene.start();
});
