import { describe, expect, it } from 'vitest';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cgroup2Mount, cgroupOf, CgroupTree } from '../../../src/sys/cgroup.ts';

const V1 = '34 30 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:10 - cgroup cgroup rw,cpu';
const HYBRID = '35 30 0:29 / /sys/fs/cgroup/unified rw,relatime shared:11 - cgroup2 cgroup2 rw';
const PART = '90 80 0:29 /kubepods/pod1 /sys/fs/cgroup rw,relatime - cgroup2 cgroup rw';

const OWN = '91 80 0:29 / /sys/fs/cgroup ro - cgroup2 cgroup rw';
const HOST = '92 80 0:29 /../.. /host/sys/fs/cgroup rw - cgroup2 cgroup2 rw';
/** what stat says of each mount point's directory */
const inode = (path: string): number | undefined => (path === '/sys/fs/cgroup' ? 4711 : path.startsWith('/gone') ? undefined : 1);

describe('mount point of cgroup v2', () => {
  it('is found by type, not by path', () => {
    expect(cgroup2Mount(`${V1}\n${HYBRID}\n`, inode)).toBe('/sys/fs/cgroup/unified');
  });
  it('is one that shows the whole, by its inode: in a cgroup namespace of its own a part looks whole, and the whole does not', () => {
    expect(cgroup2Mount(`${PART}\n${HYBRID}\n`, inode)).toBe('/sys/fs/cgroup/unified');
    expect(cgroup2Mount(`${OWN}\n${HOST}\n`, inode)).toBe('/host/sys/fs/cgroup');
  });
  it('may hold spaces, and have no optional fields', () => {
    expect(cgroup2Mount('35 30 0:29 / /mnt/a\\040b rw - cgroup2 none rw', inode)).toBe('/mnt/a b');
  });
  it('says whether it is missing or only a part', () => {
    expect(() => cgroup2Mount(V1, inode)).toThrow(/no file system of type cgroup2/);
    expect(() => cgroup2Mount(OWN, inode)).toThrow(/\/sys\/fs\/cgroup shows only a part/);
    expect(() => cgroup2Mount('35 30 0:29 / /gone rw - cgroup2 none rw', inode)).toThrow(/\/gone shows only a part/);
  });
});

describe('directory of a cgroup', () => {
  it('is below the whole, wherever our own namespace begins', () => {
    expect(new CgroupTree('/cg').directory('/')).toBe('/cg');
    expect(new CgroupTree('/cg').directory('/kubepods/pod1')).toBe('/cg/kubepods/pod1');
    const own = new CgroupTree('/host/cg', '/kubepods/pod1/agent');
    expect(own.directory('/')).toBe('/host/cg/kubepods/pod1/agent');
    expect(own.directory('/../../pod2/tunnel')).toBe('/host/cg/kubepods/pod2/tunnel');
    expect(own.directory('/../../..')).toBe('/host/cg');
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
