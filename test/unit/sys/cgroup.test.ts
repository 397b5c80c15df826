import { describe, expect, it } from 'vitest';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cgroup2Mount, cgroupOf } from '../../../src/sys/cgroup.ts';

const V1 = '34 30 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:10 - cgroup cgroup rw,cpu';
const HYBRID = '35 30 0:29 / /sys/fs/cgroup/unified rw,relatime shared:11 - cgroup2 cgroup2 rw';
const PART = '90 80 0:29 /kubepods/pod1 /sys/fs/cgroup rw,relatime - cgroup2 cgroup rw';

describe('mount point of cgroup v2', () => {
  it('is found by type, not by path', () => {
    expect(cgroup2Mount(`${V1}\n${HYBRID}\n`)).toBe('/sys/fs/cgroup/unified');
  });
  it('is one that shows the root', () => {
    expect(cgroup2Mount(`${PART}\n${HYBRID}\n`)).toBe('/sys/fs/cgroup/unified');
  });
  it('may hold spaces, and have no optional fields', () => {
    expect(cgroup2Mount('35 30 0:29 / /mnt/a\\040b rw - cgroup2 none rw')).toBe('/mnt/a b');
  });
  it('says whether it is missing or only a part', () => {
    expect(() => cgroup2Mount(V1)).toThrow(/no file system of type cgroup2/);
    expect(() => cgroup2Mount(PART)).toThrow(/\/sys\/fs\/cgroup shows only a part/);
  });
});

describe('cgroup of a process', () => {
  it('is the line of hierarchy 0', () => {
    const proc = mkdtempSync(join(tmpdir(), 'cvt-addon-'));
    mkdirSync(join(proc, '7'));
    writeFileSync(join(proc, '7/cgroup'), '3:cpu:/x\n0::/kubepods/a:b\n');
    expect(cgroupOf(7, proc)).toBe('/kubepods/a:b');
    writeFileSync(join(proc, '7/cgroup'), '3:cpu:/x\n');
    expect(() => cgroupOf(7, proc)).toThrow(/it is in no cgroup v2/);
    expect(() => cgroupOf(8, proc)).toThrow(/read cgroup of process 8: ENOENT/);
    rmSync(proc, { recursive: true });
  });
});
