/** A resolver of the outside world in a plain pod: answers for *.example with documentation addresses, says "no such name" to all else. */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { pathToFileURL } from 'node:url';
import { decodeQuestion, encodeAnswer } from './dns-wire.ts';

export const outside = { A: '192.0.2.7', AAAA: '2001:db8:0:0:0:0:0:7' } as const;

const bytes = { A: Buffer.from([192, 0, 2, 7]), AAAA: Buffer.from('20010db8000000000000000000000007', 'hex') };

/** Who asked for what is a line on stdout: "udp 10.244.1.2 A name". */
function answer(transport: string, peer: string | undefined, query: Buffer): Buffer {
  const { name, type } = decodeQuestion(query);
  process.stdout.write(`${transport} ${(peer ?? '').replace(/^::ffff:/, '')} ${type ?? '?'} ${name}\n`);
  if (!name.endsWith('.example')) return encodeAnswer(query, [], 3);
  return encodeAnswer(query, type === undefined ? [] : [bytes[type]]);
}

function serve(): void {
  const udp = createSocket('udp6');
  udp.on('message', (query, { address, port }) => {
    udp.send(answer('udp', address, query), port, address);
  });
  udp.bind(53, '::');
  createServer((socket) => {
    let received = Buffer.alloc(0);
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      received = Buffer.concat([received, data]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0);
        const reply = answer('tcp', socket.remoteAddress, received.subarray(2, end));
        received = received.subarray(end);
        socket.write(Buffer.concat([Buffer.from([reply.length >> 8, reply.length & 0xff]), reply]));
      }
    });
  }).listen(53, '::');
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) serve();
