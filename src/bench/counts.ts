/** How the benchmark's servers are asked what they counted: a unix socket that says one JSON line to whoever connects. */
import { mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { dirname } from 'node:path';
import { CulvertError, describe } from '../base/errors.ts';

export interface Counts {
  accepted: number;
  bytes: number;
}

/** By name of what is counted. */
export type CountsByName = Record<string, Counts>;

const TIMEOUT_MS = 5000;

/** A file of an earlier process is replaced. */
export async function tellCounts(path: string, counts: () => CountsByName): Promise<Server> {
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  const server = createServer((socket) => {
    socket.on('error', () => undefined); // who asked is gone
    socket.end(`${JSON.stringify(counts())}\n`);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  return server;
}

/** @throws CulvertError LAB when nobody answers */
export async function askCounts(path: string): Promise<CountsByName> {
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown): void => {
      reject(new CulvertError('LAB', `ask ${path} for its counts: ${describe(cause)}`, cause));
    };
    let text = '';
    const socket = connect(path);
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    socket.setEncoding('utf8').on('data', (data: string) => (text += data));
    socket.once('error', failed);
    socket.once('end', () => {
      try {
        resolve(JSON.parse(text) as CountsByName);
      } catch (error) {
        failed(error);
      }
    });
  });
}
