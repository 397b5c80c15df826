/** Proofs: the agent may die unnoticed by any connection; without a tunnel an enrolled pod is refused at once, never plain. */
import type { PodStatus } from '../../agent/api.ts';
import { echoPorts } from '../echo.ts';
import { nodesOf } from '../down.ts';
import { podStatuses, settle } from '../settled.ts';
import { until } from '../until.ts';
import { expect, type Scene } from './scene.ts';

const OPEN = 'over the agent’s death';

const inShop = (pod: { namespace: string }): boolean => pod.namespace === 'shop';
const cookies = (pods: { uid: string; netnsCookie: string }[]): string =>
  pods
    .map((pod) => `${pod.uid} ${pod.netnsCookie}`)
    .sort()
    .join();

export async function agentKilled(scene: Scene): Promise<string> {
  const nodes = nodesOf(scene.lab);
  const before = (await podStatuses(scene.lab)).filter(inShop);
  await scene.client.must({ op: 'open', id: OPEN, host: scene.ip('shop/web-2'), port: echoPorts.bytes });
  await Promise.all(nodes.map((node) => scene.kill(node, 'agent')));
  for (let i = 0; i < 20; i += 1) await encrypted(scene);
  await scene.client.must({ op: 'send', id: OPEN, text: 'still here' });
  const { code, document } = await scene.culvert<PodStatus[]>(['pods']);
  expect(
    code === 0 && cookies(document) === cookies(before),
    `"pods" without agents answered with code ${code} and ${document.length} pods`,
  );
  await Promise.all(nodes.map((node) => scene.start(node, 'agent')));
  const after = await settle(scene.lab, inShop);
  expect(cookies(after.filter(inShop)) === cookies(before), 'the pods are not the same as before');
  await scene.client.must({ op: 'send', id: OPEN, text: 'and after' });
  await scene.client.must({ op: 'close', id: OPEN });
  await encrypted(scene);
  return `20 of 20 new connections and the open one went on; ${document.length} pods read from the pins; after the restart all as before`;
}

export async function tunnelKilled(scene: Scene): Promise<string> {
  const host = scene.ip('shop/web-2');
  await scene.kill('node1', 'ztunnel');
  const out = await scene.client.call({ op: 'http', host, port: echoPorts.http, path: '/' });
  const into = await scene.stranger.call({ op: 'http', host: scene.ip('shop/web-1'), port: echoPorts.http, path: '/' });
  for (const [direction, answer] of [
    ['out of', out],
    ['into', into],
  ] as const) {
    const told = answer.ok ? 'it went through' : `${answer.code} after ${answer.ms.toFixed(1)} ms`;
    expect(!answer.ok && answer.code === 'ECONNREFUSED', `a connection ${direction} the pod was not refused: ${told}`);
  }
  const started = performance.now();
  await scene.start('node1', 'ztunnel');
  await until('the pods to be served again', 15_000, async () =>
    (await scene.client.call({ op: 'http', host, port: echoPorts.http, path: '/' })).ok ? true : undefined,
  );
  const back = performance.now() - started;
  await settle(scene.lab, inShop);
  await encrypted(scene);
  return `refused (ECONNREFUSED) after ${out.ms.toFixed(1)} ms outbound and ${into.ms.toFixed(1)} ms inbound; served again ${back.toFixed(0)} ms after its start`;
}

/** A new connection, and the tunnel knows the peer's identity. */
async function encrypted(scene: Scene): Promise<void> {
  scene.markLogs();
  const { local } = await scene.http(scene.client, scene.ip('shop/web-2'));
  const line = await scene.accessLine('node1', 'the connection', (found) => found['src.addr'] === local);
  expect(typeof line['dst.identity'] === 'string', 'the connection was not encrypted');
}
