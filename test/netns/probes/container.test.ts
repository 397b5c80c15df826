/**
 * As in a container: /proc/sys is read-only, and another procfs is mounted writable beside it. What is read and written through that is
 * the sysctls of the netns that the thread is in, as through any procfs.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { settingsOf, type TestPod } from '../../support/netns.ts';
import { Scene } from '../redirect/scene.ts';

const CONTAINED = new URL('./contained.ts', import.meta.url).pathname;

let scene: Scene;
let pod: TestPod;
let procRoot: string;

beforeAll(async () => {
  scene = await Scene.create();
  pod = await scene.node.pod('web', 2);
  procRoot = `${scene.node.dir}/host-proc`;
  mkdirSync(procRoot);
  scene.driver.close(); // its pins are the contained one's
});
afterAll(() => scene.close());

/** Runs contained.ts in a mount namespace of its own. @returns what it said */
function contained(verb: 'prepare' | 'remove', proc: string): { state?: string; error?: string; node: string } {
  const script = `
    mount --make-rprivate / && mount -t proc proc "$1" && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
    if echo 1 > /proc/sys/net/ipv4/fwmark_reflect; then exit 3; fi 2>/dev/null
    exec "$0" --disable-warning=ExperimentalWarning "$2" "$3" "$4" "$5" "$6" "$7" "$8"`;
  const { node } = scene;
  const args = [process.execPath, procRoot, CONTAINED, verb, proc, scene.pinDir, node.cgroupRoot, node.nodeNetns, pod.netns];
  const out = execFileSync('unshare', ['--mount', 'sh', '-ec', script, ...args], { encoding: 'utf8' });
  return JSON.parse(out) as { state?: string; error?: string; node: string };
}

test('through its own procfs the sysctls cannot be set: refused, and the netns is as before', () => {
  const before = settingsOf(pod.netnsName);
  expect(contained('prepare', '/proc')).toMatchObject({ error: expect.stringContaining('EROFS') as string });
  expect(settingsOf(pod.netnsName)).toBe(before);
});

test('through the host’s they are, those of the pod and nobody else’s, and they are taken back', () => {
  const before = settingsOf(pod.netnsName);
  const { state, node } = contained('prepare', procRoot);
  expect(state).toBe('prepared');
  expect(settingsOf(pod.netnsName)).toContain('ipv4/tcp_fwmark_accept 1\nipv4/fwmark_reflect 1\nipv6/fwmark_reflect 1');
  expect(node, "the node's own").toBe('0');
  expect(contained('remove', procRoot)).toMatchObject({ state: 'none' });
  expect(settingsOf(pod.netnsName)).toBe(before);
});
