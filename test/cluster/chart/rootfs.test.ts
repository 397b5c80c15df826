/** The image's root filesystem, as a container has it: entered by chroot, read-only. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const SCRIPT = join(import.meta.dirname, '../../../deploy/rootfs.sh');

let root: string;
beforeAll(() => {
  root = join(mkdtempSync(join(tmpdir(), 'cvt-rootfs-')), 'root');
  execFileSync(SCRIPT, [root], { stdio: 'pipe' });
});
afterAll(() => {
  rmSync(join(root, '..'), { recursive: true });
});

interface Answer {
  /** exit code */
  code: number;
  stdout: string;
  stderr: string;
}

/** @param before shell commands in the container's mount namespace, with $root */
function contained(command: readonly string[], { input = '', before = '' } = {}): Promise<Answer> {
  const script = `
    set -e; mount --bind "$root" "$root"; mount -o remount,bind,ro "$root"
    mount -t proc proc "$root/proc"; mount --rbind -o ro /sys "$root/sys"; ${before}
    exec chroot "$root" "$@"`;
  return new Promise((resolve) => {
    const env = { PATH: process.env['PATH'], root };
    const child = execFile('unshare', ['--mount', 'sh', '-c', script, 'sh', ...command], { env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr });
    });
    child.stdin?.end(input);
  });
}

describe('the root filesystem', () => {
  it('has the two executables with all that they load', async () => {
    const version = await contained(['culvert', 'version', '-o', 'json']);
    expect(version).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(version.stdout)).toHaveProperty('version');
    for (const role of ['agent', 'ztunnel', 'control']) {
      expect(await contained(['culvert', role, '--help']), role).toMatchObject({ code: 0, stderr: '' });
    }
    const plugin = await contained(['culvert-cni'], {
      before: 'export CNI_COMMAND=VERSION;',
      input: '{"cniVersion":"1.1.0"}',
    });
    expect(plugin).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(plugin.stdout)).toMatchObject({ supportedVersions: expect.arrayContaining(['1.1.0']) as unknown });
  });

  it('has the programs that the agent runs for a throw-away network namespace', async () => {
    const made = await contained(['unshare', '--net', 'sh', '-c', 'echo ready; exec nsenter --net=/proc/self/ns/net ip -batch -'], {
      input: 'link set lo up\n',
    });
    expect(made).toMatchObject({ code: 0, stdout: 'ready\n' });
    expect(await contained(['cat'], { input: 'piped' })).toMatchObject({ code: 0, stdout: 'piped' });
  });

  it('can be read-only: the addon is unpacked already', async () => {
    expect(await contained(['sh', '-c', 'echo x > /tmp/x'])).toMatchObject({ code: 2 });
    // bpf(2) by the addon is reached
    const places = ['--run-dir', '/run/culvert', '--pin-dir', '/sys/fs/bpf/none']; // not those of a lab that happens to be up
    const maps = ['culvert', 'maps', '-o', 'json', ...places];
    expect((await contained(maps)).stderr).toContain('bpf(BPF_OBJ_GET)');
    const without = await contained(maps, { before: 'mount -t tmpfs -o ro none "$root/var/cache";' });
    expect(without.stderr, 'without the unpacked one').toContain('load native addon');
  });
});
