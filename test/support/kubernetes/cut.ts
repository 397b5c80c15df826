/** A TCP relay before an API server that a test can cut and join again, as a network would. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { readFileSync, writeFileSync } from 'node:fs';

export interface Cut {
  /** path of a copy of the kubeconfig that goes through the relay */
  kubeconfig: string;
  /** Breaks every connection, and refuses new ones. */
  cut(): void;
  join(): void;
  close(): void;
}

/** @param server url of the API server @param kubeconfig path; the copy lies beside it */
export async function relayTo(server: string, kubeconfig: string): Promise<Cut> {
  const { hostname, port } = new URL(server);
  const open = new Set<Socket>();
  let joined = true;
  const relay = createServer((client) => {
    if (!joined) {
      client.destroy();
      return;
    }
    const upstream = connect(Number(port), hostname);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        open.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  const address = `https://127.0.0.1:${(relay.address() as AddressInfo).port}`;
  const copy = `${kubeconfig}.cut`;
  writeFileSync(copy, readFileSync(kubeconfig, 'utf8').replace(server, address));
  const breakAll = (): void => open.forEach((socket) => socket.destroy());
  return {
    kubeconfig: copy,
    cut() {
      joined = false;
      breakAll();
    },
    join() {
      joined = true;
    },
    close() {
      breakAll();
      relay.close();
    },
  };
}
