/** A ztunnel on the real seqpacket socket, answering as told: what the agent's end of ZDS is tested with. */
import { closeSync, fstatSync } from 'node:fs';
import { native } from '../../src/sys/native.ts';
import { decodeRequest, encodeAck, encodeHello, type ZdsRequest } from '../../src/zds/messages.ts';

export interface FakeTunnelOptions {
  /** undefined: no answer at all */
  answer?: (request: ZdsRequest, tunnel: FakeTunnel) => Uint8Array | undefined;
  /** bytes of the first packet; undefined: none */
  hello?: Uint8Array | undefined;
}

export class FakeTunnel {
  /** "add u1", "keep u2", "snapshotSent", "del u1", as they came */
  readonly received: string[] = [];
  /** inode of the netns that came with each add */
  readonly netns = new Map<string, number>();
  closed = false;
  readonly #socket: ReturnType<typeof native.seqpacketConnect>;

  constructor(path: string, options: FakeTunnelOptions = {}) {
    const answer = options.answer ?? (() => encodeAck());
    this.#socket = native.seqpacketConnect(path, 1024, {
      onPacket: (data, fds) => {
        const request = decodeRequest(data);
        this.received.push(request.kind === 'snapshotSent' ? request.kind : `${request.kind} ${request.uid}`);
        for (const fd of fds) {
          if (request.kind === 'add') this.netns.set(request.uid, fstatSync(fd).ino);
          closeSync(fd);
        }
        if ((request.kind === 'add') !== (fds.length === 1)) throw new Error(`${request.kind} came with ${fds.length} fds`);
        const packet = answer(request, this);
        if (packet !== undefined) this.send(packet);
      },
      onClose: () => {
        this.closed = true;
      },
    });
    const hello = 'hello' in options ? options.hello : encodeHello();
    if (hello !== undefined) this.send(hello);
  }

  send(packet: Uint8Array, fd?: number): void {
    this.#socket.send(packet, fd);
  }

  close(): void {
    this.closed = true;
    this.#socket.close();
  }
}
