/** Proofs: who is outside the mesh is still talked to, in plaintext; and labels move pods in and out without cutting anything. */
import type { PodStatus } from '../../agent/api.ts';
import { echoPorts } from '../echo.ts';
import { labelInLab } from '../label.ts';
import { settle } from '../settled.ts';
import type { Client } from './client.ts';
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

export async function labelOff(scene: Scene): Promise<string> {
  await scene.client.must({ op: 'open', id: KEPT, host: scene.ip('shop/web-2'), port: echoPorts.bytes });
  await stillTalks(scene, 'before');
  const started = performance.now();
  labelInLab(scene.lab, 'namespace', 'shop', [{ key: LABEL, value: undefined }]);
  const talking = keepTalking(scene);
  await settle(scene.lab, () => false);
  const ms = performance.now() - started;
  const rounds = await talking.stop();
  const plain = await readable(scene, scene.client, 'shop/web-2');
  return `out after ${ms.toFixed(0)} ms; ${plain}; ${rounds} rounds on the open connection meanwhile`;
}

export async function labelOnAgain(scene: Scene): Promise<string> {
  const started = performance.now();
  labelInLab(scene.lab, 'namespace', 'shop', [{ key: LABEL, value: 'ambient' }]);
  await settle(scene.lab, (pod: PodStatus) => pod.namespace === 'shop');
  const ms = performance.now() - started;
  const marker = scene.marker();
  const { wire } = await scene.captured(() => scene.http(scene.client, scene.ip('shop/web-2'), echoPorts.http, marker));
  expect(!wire.includes(marker) && wire.length > 1000, 'new connections are not encrypted');
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
