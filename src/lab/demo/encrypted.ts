/** Proofs: traffic inside the mesh is mutual TLS between proven identities, and the application sees its client. */
import { echoPorts } from '../echo.ts';
import { tcpFlows, tlsRecords } from './pcap.ts';
import { expect, type Family, type Scene } from './scene.ts';

const CLIENT = '/ns/shop/sa/client';
const WEB = '/ns/shop/sa/web';

/** Client to one pod by address: who the server sees, and what both tunnels write. */
export async function byPodAddress(scene: Scene, pod: string, node: string, family: Family): Promise<string> {
  const own = scene.ip('shop/client', family);
  scene.markLogs();
  const { seen, local, ms } = await scene.http(scene.client, scene.ip(`shop/${pod}`, family));
  expect(seen.hostname === pod, `${seen.hostname} answered instead of ${pod}`);
  expect(seen.peer === own, `the server saw ${seen.peer}, the client is ${own}`);
  const identities = await identitiesOf(scene, local, pod, node);
  return `${pod} saw its client as ${seen.peer}; both logs: ${identities}; ${ms.toFixed(0)} ms`;
}

async function identitiesOf(scene: Scene, local: string, pod: string, node: string): Promise<string> {
  const sides = [
    await scene.accessLine('node1', `the client's side`, (line) => line['direction'] === 'outbound' && line['src.addr'] === local),
    await scene.accessLine(
      node,
      `the server's side`,
      (line) => line['direction'] === 'inbound' && line['dst.workload'] === pod && line['src.workload'] === 'client',
    ),
  ];
  for (const line of sides) {
    const [source, destination] = [String(line['src.identity'] ?? 'nobody'), String(line['dst.identity'] ?? 'nobody')];
    const whole =
      source.startsWith('spiffe://') && source.endsWith(CLIENT) && destination.startsWith('spiffe://') && destination.endsWith(WEB);
    expect(whole, `the ${line['direction']} line names ${source} and ${destination}`);
  }
  return `${sides[0]?.['src.identity']} to ${sides[0]?.['dst.identity']}`;
}

/** Istio's ztunnel draws lots. That so many all fall on one of two pods does not happen. */
const DRAWS = 40;

/** By the service's virtual address: every endpoint has its turn. */
export async function byService(scene: Scene, family: Family): Promise<string> {
  const vip = scene.vip('shop/web', family);
  const servers: string[] = [];
  const all = (): boolean => servers.includes('web-1') && servers.includes('web-2');
  while (servers.length < 4 || (!all() && servers.length < DRAWS)) {
    const { seen } = await scene.http(scene.client, vip, 80);
    expect(seen.peer === scene.ip('shop/client', family), `the server saw ${seen.peer}`);
    servers.push(seen.hostname);
  }
  expect(all(), `only ${[...new Set(servers)].join()} answered`);
  return `${vip}:80 answered by ${servers.join(', ')}`;
}

/** What an eavesdropper between the nodes has of an exchange. */
export async function onlyTlsOnTheWire(scene: Scene): Promise<string> {
  const marker = scene.marker();
  const { wire } = await scene.captured(() => scene.http(scene.client, scene.ip('shop/web-2'), echoPorts.http, marker));
  const flows = tcpFlows(wire);
  expect(flows.length > 0, 'the capture is empty');
  const hbone = flows.filter((flow) => [flow.src, flow.dst].some((end) => end.endsWith(':15008')));
  const others = flows.filter((flow) => !hbone.includes(flow));
  expect(others.length === 0, `there is TCP beside port 15008: ${others.map((flow) => `${flow.src} to ${flow.dst}`).join(', ')}`);
  expect(hbone.length >= 2, 'only one direction of the exchange was captured');
  let records = 0;
  for (const flow of hbone) {
    const counts = tlsRecords(flow);
    expect(counts !== undefined, `${flow.src} to ${flow.dst} is not TLS from the beginning to the end`);
    for (const count of counts?.values() ?? []) records += count;
  }
  expect(!wire.includes(marker), 'the text of the exchange is readable in the capture');
  return `${wire.length} bytes captured, ${hbone.length} directions of port 15008, ${records} TLS records, "${marker.slice(0, 13)}…" not among them`;
}

export async function serverFirst(scene: Scene, family: Family): Promise<string> {
  const { text } = await scene.client.must({
    op: 'server-first',
    host: scene.ip('shop/web-2', family),
    port: echoPorts.serverFirst,
    say: 'hello\n',
  });
  expect(text === '220 web-2 speaks first\r\n250 heard hello\r\n', `it said ${JSON.stringify(text)}`);
  return 'the server spoke first, heard the answer, and closed';
}

export async function bytesEcho(scene: Scene, family: Family): Promise<string> {
  const bytes = 4 << 20;
  const { ms } = await scene.client.must({ op: 'echo', host: scene.ip('shop/web-2', family), port: echoPorts.bytes, bytes });
  return `${bytes >> 20} MiB of random bytes came back equal after the half-close, in ${ms.toFixed(0)} ms`;
}
