/** What a Service does for a client: one address, and each new connection goes to a backend that lives. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Relay {
  port: number;
  /** ports on 127.0.0.1, tried in order of their turn */
  backends: number[];
  close(): void;
}

export async function startRelay(backends: number[]): Promise<Relay> {
  const sockets = new Set<Socket>();
  let turn = 0;
  const relay: Relay = { port: 0, backends, close };
  const server = createServer({ allowHalfOpen: true }, (client) => {
    sockets.add(client);
    client.on('close', () => sockets.delete(client)).on('error', () => client.destroy());
    dial(client, turn++, relay.backends.length);
  });

  function dial(client: Socket, index: number, attempts: number): void {
    const port = relay.backends[index % Math.max(relay.backends.length, 1)];
    if (port === undefined || attempts === 0) {
      client.resetAndDestroy();
      return;
    }
    const backend = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const refused = (): void => dial(client, index + 1, attempts - 1);
    backend.once('error', refused);
    backend.once('connect', () => {
      sockets.add(backend);
      backend.off('error', refused);
      backend.on('error', () => client.resetAndDestroy());
      backend.on('close', () => {
        sockets.delete(backend);
        client.destroy();
      });
      client.on('close', () => backend.destroy());
      client.pipe(backend).pipe(client);
    });
  }

  function close(): void {
    server.close();
    for (const socket of sockets) socket.destroy();
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  relay.port = (server.address() as AddressInfo).port;
  return relay;
}
