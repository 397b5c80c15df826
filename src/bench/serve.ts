/** Hidden role `bench-serve`: what runs in every pod of the benchmark, client or server: the echo server, and what it counted. */
import { native } from '../sys/native.ts';
import { tellCounts } from './counts.ts';

export const ECHO_PORT = 8080;
/** of every echo server: pods' and stand-in's alike */
export const ECHO_THREADS = 2;
export const ECHO_BACKLOG = 1024;

/** @param counts path of the socket that tells the counts */
export async function runServe(counts: string): Promise<void> {
  const server = native.echoServer(ECHO_THREADS);
  const socket = { family: 6, type: 'tcp', reuseAddr: true, noDelay: true, v6only: false } as const;
  const listener = server.listen(-1, { ...socket, bind: { address: '::', port: ECHO_PORT }, listen: { backlog: ECHO_BACKLOG } });
  await tellCounts(counts, () => ({ echo: server.counts(listener) }));
}
