/**
 * What becomes of connections when ztunnel drains, is replaced, is killed, or the agent beside it ends. A replacement is what a
 * DaemonSet with maxSurge does: the new one starts in a netns of its own, is ready, and then the old one gets SIGTERM.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { echoPorts } from '../../src/lab/echo.ts';
import { daemonRecord } from '../../src/lab/daemons.ts';
import { AccessLogReader } from '../../src/lab/demo/access-log.ts';
import type { Scene } from '../../src/lab/demo/scene.ts';
import type { TunnelSlot } from '../../src/lab/paths.ts';
import { signal } from '../../src/lab/processes.ts';
import { settle } from '../../src/lab/settled.ts';
import { until } from '../../src/lab/until.ts';
import type { LoadAnswer } from './pod-program.ts';
import { buildWorld, ended, inShop, PodProgram, ready, type World } from './world.ts';

/** 18 is the figure of the design; a run of the ring is content with less. */
const REPLACEMENTS = Number(process.env['CULVERT_TEST_REPLACEMENTS'] ?? 2);
/** workers of the way on which the far ztunnel is replaced */
const BETWEEN = 4;

let world: World;
let scene: Scene;
let client: PodProgram;
let other: PodProgram;
let plain: PodProgram;
/** where node1's tunnel runs now */
let current: TunnelSlot = 'ztunnel';

beforeAll(async () => {
  world = await buildWorld('replacement');
  scene = world.scene;
  const inPod = (pod: string): Promise<PodProgram> => PodProgram.inPod(world.lab, pod);
  [client, other, plain] = await Promise.all([inPod('shop/client'), inPod('shop/other'), inPod('legacy/old')]);
});

afterAll(async () => {
  for (const program of [client, other, plain]) program.close();
  await world.close();
});

interface Total {
  ok: number;
  failed: string[];
  /** of the way between the two ztunnels: see `betweenTunnels` */
  between: number;
  kept: LoadAnswer['kept'];
}

/** Out of node1, into it and within it, over HBONE and in plaintext. */
async function underLoad(act: () => Promise<void>): Promise<Total> {
  const ways = [
    { by: client, host: scene.ip('shop/web-2'), workers: 4, kept: 4 },
    { by: client, host: scene.ip('shop/web-2', 6), workers: 2, kept: 2 },
    { by: client, host: scene.ip('legacy/old'), workers: 2, kept: 2 },
    { by: other, host: scene.ip('shop/web-1'), workers: BETWEEN, kept: 4 },
    { by: plain, host: scene.ip('shop/web-1'), workers: 2, kept: 2 },
    // HBONE too, from node1's tunnel to itself
    { by: client, host: scene.ip('shop/web-1'), workers: 4, kept: 2 },
    { by: client, host: scene.ip('shop/web-1', 6), workers: 2, kept: 2 },
  ];
  const log = new AccessLogReader(world.lab.node('node2').tunnelLog);
  await Promise.all(ways.map(({ by, ...way }, i) => by.ask({ op: 'load', id: String(i), port: echoPorts.bytes, ...way })));
  const stop = (): Promise<LoadAnswer[]> => Promise.all(ways.map(({ by }, i) => by.ask({ op: 'stop', id: String(i) })));
  try {
    await act();
  } catch (error) {
    await stop();
    throw error;
  }
  const answers = await stop();
  const total: Total = { ok: 0, failed: [], between: 0, kept: { rounds: 0, ended: 0, broken: 0 } };
  const each: number[] = [];
  for (const [i, { ok, failed, kept }] of answers.entries()) {
    expect(ok).toBeGreaterThan(0);
    total.ok += ok;
    each.push(ok);
    for (const key of ['rounds', 'ended', 'broken'] as const) total.kept[key] += kept[key];
    if (ways[i]?.by === other) total.between += betweenTunnels(failed, log);
    else total.failed.push(...Object.entries(failed).map(([cause, count]) => `${count} × ${cause} on way ${i}, to ${ways[i]?.host ?? ''}`));
  }
  console.log(`new connections by way: ${each.join(', ')}`);
  return total;
}

const sum = (counts: Record<string, number>): number => Object.values(counts).reduce((all, count) => all + count, 0);

/**
 * The other node's ztunnel opens streams on a pooled connection, also in the moment in which the one at its end drains and says GOAWAY:
 * such a stream is lost, and its application's connection with it. A race in HTTP/2 on a connection that is long there; what the
 * redirect has to answer for is that each new connection to port 15008 was taken.
 */
function betweenTunnels(failed: Record<string, number>, log: AccessLogReader): number {
  const refused = log
    .lines()
    .filter((line) => line['direction'] === 'outbound' && line['src.workload'] === 'other')
    .filter((line) => /connection failed|timed out|refused|unreachable/i.test(String(line['error'] ?? '')));
  expect(refused).toEqual([]);
  const lost = sum(failed);
  expect(Object.keys(failed).filter((cause) => !cause.startsWith('echo '))).toEqual([]);
  expect(lost).toBeLessThanOrEqual(REPLACEMENTS * BETWEEN); // no more than were under way each time
  return lost;
}

const text = ({ ok, failed, between, kept }: Total): string =>
  `${ok} new connections ok, ${failed.length === 0 ? 'none failed' : failed.join(', ')}, ${between} streams lost between the two ztunnels; kept ones: ${kept.rounds} rounds, ${kept.ended} ended between rounds, ${kept.broken} in one`;

async function encrypted(): Promise<void> {
  scene.markLogs();
  const { local } = await scene.http(scene.client, scene.ip('shop/web-2'));
  expect(await accessLine(local)).toMatchObject({ 'dst.identity': 'spiffe://cluster.local/ns/shop/sa/web' });
}

const accessLine = (local: string): ReturnType<Scene['accessLine']> =>
  scene.accessLine('node1', 'the connection', (line) => line['src.addr'] === local);

/** Killed and up again in the first place, whose log the access log is read from. */
async function freshTunnel(): Promise<void> {
  if (signal(daemonRecord(world.lab, 'node1', current), 'SIGKILL')) await ended(world.lab, 'node1', current);
  current = 'ztunnel';
  await scene.start('node1', current);
  await ready(world.lab, 'node1');
  await settle(world.lab, inShop);
}

test(
  `${REPLACEMENTS} replacements under load: no new connection fails`,
  async () => {
    const total = await underLoad(async () => {
      for (let i = 0; i < REPLACEMENTS; i += 1) {
        const next = current === 'ztunnel' ? 'ztunnel-2' : 'ztunnel';
        await scene.start('node1', next);
        await ready(world.lab, 'node1', next);
        signal(daemonRecord(world.lab, 'node1', current), 'SIGTERM');
        await ended(world.lab, 'node1', current);
        current = next;
      }
    });
    console.log(`${REPLACEMENTS} replacements: ${text(total)}`);
    expect(total.failed).toEqual([]);
    expect(total.kept.rounds).toBeGreaterThan(0);
  },
  60_000 + REPLACEMENTS * 30_000,
);

test('SIGTERM without a successor: open connections go on to the deadline, new ones are refused at once', async () => {
  await freshTunnel();
  const open = [
    ['hbone', scene.ip('shop/web-2')],
    ['plaintext', scene.ip('legacy/old')],
  ] as const;
  for (const [id, host] of open) await scene.client.must({ op: 'open', id, host, port: echoPorts.bytes });
  signal(daemonRecord(world.lab, 'node1', current), 'SIGTERM');
  const knock = { op: 'try', port: echoPorts.bytes, say: 'hello' } as const;
  await until('new connections to be refused', 5000, async () => {
    const out = await client.ask({ ...knock, host: scene.ip('shop/web-2') });
    return out.outcome === 'refused' ? true : undefined;
  });
  for (const { by, host } of [
    { by: client, host: scene.ip('shop/web-2', 6) },
    { by: client, host: scene.ip('legacy/old') },
    { by: plain, host: scene.ip('shop/web-1') },
    { by: plain, host: scene.ip('shop/web-1', 6) },
  ])
    expect(await by.ask({ ...knock, host })).toEqual({ outcome: 'refused', detail: 'ECONNREFUSED' });
  for (const [id] of open) expect((await scene.client.must({ op: 'send', id, text: `still ${id}` })).text).toBe(`still ${id}`);
  await ended(world.lab, 'node1', current);
  for (const [id] of open) {
    expect(await scene.client.call({ op: 'send', id, text: 'too late' })).toMatchObject({ ok: false });
    await scene.client.must({ op: 'close', id });
  }
  await freshTunnel();
  await encrypted();
});

test('SIGKILL: refused at once, out and in; served again when it is back', async () => {
  await scene.kill('node1', 'ztunnel');
  const knock = { op: 'try', port: echoPorts.bytes, say: 'hello' } as const;
  for (const family of [4, 6] as const) {
    for (const to of ['shop/web-2', 'legacy/old'])
      expect(await client.ask({ ...knock, host: scene.ip(to, family) })).toEqual({ outcome: 'refused', detail: 'ECONNREFUSED' });
    expect(await plain.ask({ ...knock, host: scene.ip('shop/web-1', family) })).toEqual({ outcome: 'refused', detail: 'ECONNREFUSED' });
    // through the living tunnel of the other node, which finds nobody at port 15008
    expect(await other.ask({ ...knock, host: scene.ip('shop/web-1', family) })).toMatchObject({ outcome: 'ended' });
  }
  await freshTunnel();
  await encrypted();
  expect(await plain.ask({ ...knock, host: scene.ip('shop/web-1') })).toEqual({ outcome: 'answered', detail: 'hello' });
});

test('the agents killed and started again under load: nothing is interrupted, kept connections neither', async () => {
  const total = await underLoad(async () => {
    for (const node of ['node1', 'node2']) await scene.kill(node, 'agent');
    await scene.http(scene.client, scene.ip('shop/web-2'));
    for (const node of ['node1', 'node2']) await scene.start(node, 'agent');
    await settle(world.lab, inShop);
  });
  console.log(`agents restarted: ${text(total)}`);
  expect(total).toMatchObject({ failed: [], between: 0 });
  expect(total.kept).toMatchObject({ ended: 0, broken: 0 });
});

test('a ztunnel that was there before the datapath: its listeners are adopted, its open connections go on', async () => {
  await scene.client.must({ op: 'open', id: 'before', host: scene.ip('shop/web-2'), port: echoPorts.bytes });
  const { pid } = daemonRecord(world.lab, 'node1', 'ztunnel') ?? {};
  await scene.kill('node1', 'agent');
  const { pinDir } = world.lab.node('node1');
  for (const name of readdirSync(pinDir)) rmSync(join(pinDir, name), { recursive: true });
  await scene.start('node1', 'agent'); // a new instance: its maps know no listener, and ztunnel opens none a second time
  await settle(world.lab, inShop);
  expect(daemonRecord(world.lab, 'node1', 'ztunnel')?.pid).toBe(pid);
  const { document } = await scene.culvert<{ rows: { pod: string; port: number; alive?: boolean }[] }[]>([
    'maps',
    'listeners',
    '--node',
    'node1',
  ]);
  const ports = (document[0]?.rows ?? []).filter(({ pod }) => pod === 'shop/client').map(({ port }) => port);
  expect([...new Set(ports)].sort()).toEqual([15001, 15006, 15008, 15053]);
  await encrypted();
  for (const family of [4, 6] as const) {
    expect((await scene.http(scene.stranger, scene.ip('shop/web-1', family))).seen.peer).toBe(scene.ip('legacy/old', family));
    const { seen } = await scene.http(scene.client, scene.ip('shop/web-1', family));
    expect(seen.peer).toBe(scene.ip('shop/client', family));
  }
  const question = { op: 'dns', server: '198.51.100.53', transport: 'udp', name: 'web.shop.svc.cluster.local', type: 'A' } as const;
  expect(await client.ask(question)).toMatchObject({ addresses: [scene.vip('shop/web')] });
  expect((await scene.client.must({ op: 'send', id: 'before', text: 'still here' })).text).toBe('still here');
  await scene.client.must({ op: 'close', id: 'before' });
});
