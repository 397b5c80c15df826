/** The agent's end of ZDS on a real socket, with tunnels that answer as told; anew for each test. */
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { native } from '../../../src/sys/native.ts';
import { MAX_PACKET } from '../../../src/zds/messages.ts';
import { ZdsServer, type ZdsWorkload } from '../../../src/zds/server.ts';
import { FakeTunnel } from '../../support/fake-tunnel.ts';

let directory: string;
let path: string;
export let server: ZdsServer;
export let netnsFd: number;
export const tunnels: FakeTunnel[] = [];
export const reasons: string[] = [];
export const trusted: number[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cvt-zds-'));
  path = join(directory, 'z.sock');
  netnsFd = openSync('/proc/self/ns/net', 'r');
  reasons.length = 0;
  trusted.length = 0;
  const log = pino(
    { level: 'info' },
    {
      write: (line: string) => {
        const { reason } = JSON.parse(line) as { reason?: string };
        if (reason !== undefined) reasons.push(reason);
      },
    },
  );
  server = new ZdsServer({
    listen: (onConnection) => native.seqpacketListen(path, 0o600, MAX_PACKET, onConnection),
    log,
    deadlineMs: 150,
    onTunnel: (peer) => trusted.push(peer.pid),
  });
});
afterEach(() => {
  for (const tunnel of tunnels.splice(0)) tunnel.close();
  server.close();
  closeSync(netnsFd);
  rmSync(directory, { recursive: true });
});

export const tunnel = (options?: ConstructorParameters<typeof FakeTunnel>[1]): FakeTunnel => {
  const made = new FakeTunnel(path, options);
  tunnels.push(made);
  return made;
};
export const workload = (uid: string, fd: number | undefined = netnsFd): ZdsWorkload => ({
  uid,
  info: { name: uid, namespace: 'shop', serviceAccount: 'sa' },
  netnsFd: fd,
});
export const kept = (uid: string): ZdsWorkload => ({ ...workload(uid), netnsFd: undefined });
export const got = (t: FakeTunnel, ...packets: string[]): Promise<void> =>
  vi.waitFor(
    () => {
      expect(t.received).toEqual(packets);
    },
    { interval: 2, timeout: 2000 },
  );
