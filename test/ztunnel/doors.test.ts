/**
 * Connections to doors that are the tunnel's own. What must come of each is what ztunnel's own test `malicious_calls_inpod` wants of
 * it behind iptables: from an enrolled pod to itself and to loopback, the tunnel's three ports accept and end the connection without
 * an answer (a call to itself, or no TLS), ports where nobody listens refuse; from a pod outside the mesh every port of an enrolled
 * pod is accepted as plaintext and ended. The rest (15053, other pods, services, the node) follows from the same rules.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Scene } from '../../src/lab/demo/scene.ts';
import type { TryAnswer } from './pod-program.ts';
import { buildWorld, PodProgram, type World } from './world.ts';

let world: World;
let scene: Scene;
const from = new Map<string, PodProgram>();

beforeAll(async () => {
  world = await buildWorld('doors');
  scene = world.scene;
  const { lab } = world;
  for (const pod of ['shop/client', 'legacy/old']) from.set(pod, await PodProgram.inPod(lab, pod));
  for (const node of ['node1', 'node2']) from.set(node, await PodProgram.onNode(lab, node));
});

afterAll(async () => {
  for (const program of from.values()) program.close();
  await world.close();
});

/** Neither TLS nor HTTP/2 nor DNS, and answered by nobody: the application's ports are others. */
const SAY = 'hello world\r\n\r\n';
/** First byte of a TLS record with an alert, of versions 1.0 to 1.3. */
const ALERT = '\x15\x03';
const TUNNEL = [15001, 15006, 15008];
const ADMIN = [15000, 15020, 15021, 15080];

/** "tls": ended with an alert, from the port that speaks TLS. */
type Outcome = TryAnswer['outcome'] | 'tls';

async function tryAll(who: string, host: string, ports: number[]): Promise<Record<number, Outcome>> {
  const program = from.get(who);
  if (program === undefined) throw new Error(`${who} has no program`);
  const answers = await Promise.all(ports.map(async (port) => [port, await program.ask({ op: 'try', host, port, say: SAY })] as const));
  return Object.fromEntries(
    answers.map(([port, { outcome, detail }]) => [port, outcome === 'ended' && detail.startsWith(ALERT) ? 'tls' : outcome]),
  );
}

const all = (ports: number[], outcome: Outcome): Record<number, Outcome> => Object.fromEntries(ports.map((port) => [port, outcome]));

const atTheTunnel = { 15001: 'ended', 15006: 'ended', 15008: 'tls' };

describe.each([4, 6] as const)('IPv%i', (family) => {
  const loopback = family === 4 ? '127.0.0.1' : '::1';

  describe('from inside an enrolled pod', () => {
    test('to its own address: the tunnel ends it, other ports are closed', async () => {
      const own = scene.ip('shop/client', family);
      expect(await tryAll('shop/client', own, TUNNEL)).toEqual(atTheTunnel);
      expect(await tryAll('shop/client', own, [...ADMIN, 15053])).toEqual(all([...ADMIN, 15053], 'refused'));
    });

    test('to loopback: the same; DNS is there for who speaks it', async () => {
      expect(await tryAll('shop/client', loopback, TUNNEL)).toEqual(atTheTunnel);
      expect(await tryAll('shop/client', loopback, ADMIN)).toEqual(all(ADMIN, 'refused'));
      for (const transport of ['udp', 'udp-connected', 'tcp'] as const) {
        const question = { op: 'dns', server: loopback, port: 15053, transport, name: 'web.shop.svc.cluster.local', type: 'A' } as const;
        expect(await from.get('shop/client')?.ask(question)).toMatchObject({ addresses: [scene.vip('shop/web')], from: loopback });
      }
    });

    test.each(['shop/web-1', 'shop/web-2'])('to another enrolled pod, %s: through both tunnels, ended at its side', async (pod) => {
      const ports = [...TUNNEL, ...ADMIN, 15053];
      expect(await tryAll('shop/client', scene.ip(pod, family), ports)).toEqual(all(ports, 'ended'));
    });

    test('to a pod outside the mesh: through the own tunnel, nobody there', async () => {
      const ports = [...TUNNEL, ...ADMIN, 15053];
      expect(await tryAll('shop/client', scene.ip('legacy/old', family), ports)).toEqual(all(ports, 'ended'));
    });

    test('to a service, on ports that it does not have', async () => {
      for (const service of ['shop/web', 'legacy/old']) {
        const ports = [...TUNNEL, ...ADMIN, 15053];
        expect(await tryAll('shop/client', scene.vip(service, family), ports)).toEqual(all(ports, 'ended'));
      }
    });
  });

  describe('from outside', () => {
    test.each(['shop/client', 'shop/web-2'])('a pod outside the mesh to %s: taken as plaintext, then ended', async (pod) => {
      const ports = [...TUNNEL, ...ADMIN, 15053];
      expect(await tryAll('legacy/old', scene.ip(pod, family), ports)).toEqual({ ...all(ports, 'ended'), 15008: 'tls' });
    });

    test.each([
      ['node1', 'shop/client'],
      ['node1', 'shop/web-1'],
      ['node2', 'shop/web-2'],
    ])('%s, whose connections are probes, to its pod %s: as from inside the pod', async (node, pod) => {
      const address = scene.ip(pod, family);
      expect(await tryAll(node, address, TUNNEL)).toEqual(atTheTunnel);
      expect(await tryAll(node, address, [...ADMIN, 15053])).toEqual(all([...ADMIN, 15053], 'refused'));
    });

    test('another node to an enrolled pod: as from a pod outside the mesh', async () => {
      const ports = [...TUNNEL, ...ADMIN, 15053];
      expect(await tryAll('node2', scene.ip('shop/client', family), ports)).toEqual({ ...all(ports, 'ended'), 15008: 'tls' });
    });
  });
});

test('after all that every pod is served as before, and no application saw any of it', async () => {
  for (const pod of ['shop/web-1', 'shop/web-2']) {
    const { seen } = await scene.http(scene.client, scene.ip(pod));
    expect(seen).toMatchObject({ hostname: pod.split('/')[1], peer: scene.ip('shop/client') });
  }
});
