/** DNS of a pod for the tests: a stand-in for the tunnel's resolver on 15053, and an application that asks somebody on port 53. */
import { createSocket, type Socket as Udp } from 'node:dgram';
import { once } from 'node:events';
import { native } from '../../../src/sys/native.ts';
import { connect, listen } from '../../../src/sys/socket.ts';

const MARK = 0x539;

/** Answers everything with "15053 " and the question, over UDP and TCP. */
export async function resolver(netnsFd: number): Promise<{ close(): void }> {
  // on loopback, as ztunnel: an answer from another address would not find its way back through the translation
  const udps = await Promise.all(
    [[4, '127.0.0.1'] as const, [6, '::1'] as const].map(([family, address]) =>
      adopted(native.netnsSocket(netnsFd, { family, type: 'udp', mark: MARK, bind: { address, port: 15053 } }), family),
    ),
  );
  for (const udp of udps) udp.on('message', (question, { address, port }) => udp.send(`15053 ${question.toString()}`, port, address));
  const tcp = await listen(netnsFd, { family: 6, mark: MARK, address: '::', port: 15053, backlog: 16 }, (socket) => {
    socket.on('data', (question: Buffer) => socket.end(`15053 ${question.toString()}`));
    socket.on('error', () => undefined);
  });
  let open = true;
  return {
    close: () => {
      if (!open) return;
      open = false;
      for (const udp of udps) udp.close();
      tcp.close();
    },
  };
}

/** @returns answer and who seems to have given it; undefined: none within half a second */
export async function askUdp(netnsFd: number, address: string): Promise<{ text: string; from: string } | undefined> {
  const family = address.includes(':') ? 6 : 4;
  const fd = native.netnsSocket(netnsFd, { family, type: 'udp', bind: { address: family === 6 ? '::' : '0.0.0.0', port: 0 } });
  const udp = await adopted(fd, family);
  try {
    udp.on('error', () => undefined);
    udp.send('who', 53, address);
    const [text, { address: from, port }] = (await once(udp, 'message', { signal: AbortSignal.timeout(500) })) as [
      Buffer,
      { address: string; port: number },
    ];
    return { text: text.toString(), from: `${from} ${port}` };
  } catch {
    return undefined;
  } finally {
    udp.close();
  }
}

export async function askTcp(netnsFd: number, address: string): Promise<string> {
  const family = address.includes(':') ? 6 : 4;
  const socket = await connect(netnsFd, { family, type: 'tcp', destination: { address, port: 53 }, timeoutMs: 1000 });
  socket.write('who');
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  socket.end();
  return text;
}

async function adopted(fd: number, family: 4 | 6): Promise<Udp> {
  const udp = createSocket(family === 4 ? 'udp4' : 'udp6');
  const listening = once(udp, 'listening');
  udp.bind({ fd });
  await listening;
  return udp;
}
