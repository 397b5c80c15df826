import fc from 'fast-check';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missingCapabilities } from '../../../src/sys/kernel.ts';
import { namespaceId, occupiedNetns, socketFds, startTime } from '../../../src/sys/procfs.ts';

describe('procfs', () => {
  let proc: string;
  beforeAll(() => {
    proc = mkdtempSync(join(tmpdir(), 'cvt-addon-'));
    mkdirSync(join(proc, '7/fd'), { recursive: true });
  });
  afterAll(() => {
    rmSync(proc, { recursive: true });
  });

  /** As proc(5): pid (comm) state, then 18 numbers, then starttime. */
  const stat = (name: string, state: string, started: bigint): void => {
    writeFileSync(join(proc, '7/stat'), `7 (${name}) ${state} ${Array.from({ length: 18 }, (_, i) => i).join(' ')} ${started} 0 0\n`);
  };

  it('reads the start time whatever the process is called', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 15 }), fc.bigInt({ min: 0n, max: 1n << 60n }), (name, started) => {
        stat(name, 'S', started);
        expect(startTime(7, proc)).toBe(started);
      }),
      { numRuns: 50 },
    );
    stat(') R 1 2 (', 'R', 9n);
    expect(startTime(7, proc)).toBe(9n);
  });

  it('knows which network namespaces a process is in', () => {
    mkdirSync(join(proc, '9/ns'), { recursive: true }); // 7 and 8 ended since they were listed
    writeFileSync(join(proc, '9/ns/net'), '');
    expect(occupiedNetns(proc)).toEqual(new Set([namespaceId(join(proc, '9/ns/net'))]));
    expect(occupiedNetns()).toContain(namespaceId('/proc/self/ns/net'));
    expect(namespaceId(join(proc, 'none'))).toBeUndefined();
  });

  it('takes a process that waits to be reaped for gone', () => {
    stat('zombie', 'Z', 9n);
    expect(startTime(7, proc)).toBeUndefined();
    expect(startTime(8, proc)).toBeUndefined();
  });

  it('lists sockets and nothing else', () => {
    for (const [fd, target] of Object.entries({ 0: '/dev/null', 3: 'socket:[123]', 4: 'pipe:[5]', 11: 'socket:[456]', 12: 'socket:[x]' }))
      symlinkSync(target, join(proc, '7/fd', fd));
    expect(socketFds(7, proc).toSorted((a, b) => a.fd - b.fd)).toEqual([
      { fd: 3, inode: 123 },
      { fd: 11, inode: 456 },
    ]);
    expect(() => socketFds(8, proc)).toThrow(/list sockets of process 8: ENOENT/);
  });
});

describe('capabilities', () => {
  const status = (effective: string): string => `Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t${effective}\n`;
  it('are read from the effective set', () => {
    expect(missingCapabilities(['NET_ADMIN', 'BPF'], status('0000000000000000'))).toEqual(['NET_ADMIN', 'BPF']);
    expect(missingCapabilities(['NET_ADMIN', 'BPF'], status('0000008000001000'))).toEqual([]);
    expect(missingCapabilities(['NET_ADMIN', 'BPF', 'PERFMON'], status('000001ffffffffff'))).toEqual([]);
  });
  it('of SYS_ADMIN contain BPF', () => {
    expect(missingCapabilities(['SYS_ADMIN', 'BPF', 'PERFMON', 'NET_RAW'], status('0000000000200000'))).toEqual(['NET_RAW']);
  });
});
