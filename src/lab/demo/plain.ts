/** Proofs: who is outside the mesh is still talked to, in plaintext; and labels move pods in and out without cutting anything. */
import { setTimeout as delay } from 'node:timers/promises';
import type { PodStatus } from '../../agent/api.ts';
import { echoPorts } from '../echo.ts';
import { labelInLab } from '../label.ts';
import { settle } from '../settled.ts';
import type { Client } from './client.ts';
import { tcpFlows } from './pcap.ts';
import { expect, type Scene } from './scene.ts';

const LABEL = 'istio.io/dataplane-mode';

/** The exchange is readable on the wire. */
async function readable(scene: Scene, from: Client, to: string): Promise<string> {
  const marker = scene.marker();
  const { result, wire } = await scene.captured(() => scene.http(from, scene.ip(to), echoPorts.http, marker));
  expect(result.seen.peer === from.place.ips.find((ip) => !ip.includes(':')), `the server saw ${result.seen.peer}`);
  expect(wire.includes(marker), 'the exchange is not readable in the capture');
  return `${result.seen.hostname} answered ${result.seen.peer}; the exchange is readable in the capture`;
}

export async function enrolledToNotEnrolled(scene: Scene): Promise<string> {
  return readable(scene, scene.client, 'legacy/old');
}

export async function notEnrolledToEnrolled(scene: Scene): Promise<string> {
  return readable(scene, scene.stranger, 'shop/web-1');
}

/** Opened before the label goes, used after it. */
const KEPT = 'kept';
/** Longer than any grace for peers: what ends the connection then is its application. */
const HOLD_MS = 2500;

export async function labelOff(scene: Scene): Promise<string> {
  await scene.client.must({ op: 'open', id: KEPT, host: scene.ip('shop/web-2'), port: echoPorts.bytes });
  await stillTalks(scene, 'before');
  const started = performance.now();
  labelInLab(scene.lab, 'namespace', 'shop', [{ key: LABEL, value: undefined }]);
  const talking = keepTalking(scene);
  await settle(scene.lab, () => false, { draining: true });
  const ms = performance.now() - started;
  const plain = await readable(scene, scene.client, 'shop/web-2');
  await delay(HOLD_MS);
  const rounds = await talking.stop();
  await scene.client.must({ op: 'close', id: KEPT });
  await settle(scene.lab, () => false);
  return `new ones direct after ${ms.toFixed(0)} ms: ${plain}; ${rounds} rounds on the open one, which went on for ${HOLD_MS / 1000} s more until its client closed it`;
}

export async function labelOnAgain(scene: Scene): Promise<string> {
  const started = performance.now();
  labelInLab(scene.lab, 'namespace', 'shop', [{ key: LABEL, value: 'ambient' }]);
  await settle(scene.lab, (pod: PodStatus) => pod.namespace === 'shop');
  const ms = performance.now() - started;
  const marker = scene.marker();
  const { wire } = await scene.captured(() => scene.http(scene.client, scene.ip('shop/web-2'), echoPorts.http, marker));
  expect(!wire.includes(marker), 'the exchange is readable in the capture');
  expect(
    tcpFlows(wire).some((flow) => flow.dst.endsWith(':15008')),
    'nothing went to port 15008',
  );
  return `in again after ${ms.toFixed(0)} ms; new connections are encrypted`;
}

async function stillTalks(scene: Scene, text: string): Promise<void> {
  const answer = await scene.client.must({ op: 'send', id: KEPT, text });
  expect(answer.text === text, `the open connection answered ${JSON.stringify(answer.text)} to ${JSON.stringify(text)}`);
}

/** Sends on the open connection without a pause until told to stop; a cut shows as an error of `stop`. */
function keepTalking(scene: Scene): { stop: () => Promise<number> } {
  let on = true;
  const run = (async (): Promise<number> => {
    let rounds = 0;
    for (; on; rounds += 1) await stillTalks(scene, `round ${rounds}`);
    return rounds;
  })();
  run.catch(() => undefined); // thrown again by stop()
  return {
    stop: async () => {
      on = false;
      return run;
    },
  };
}
