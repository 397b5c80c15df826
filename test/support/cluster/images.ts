/** The images that tests run. All are `imagePullPolicy: Never`. */
import { execFile } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { PAUSE_IMAGE } from './config.ts';
import { imageOf } from './image.ts';
import { tool } from './tools.ts';

const run = promisify(execFile);
const PAUSE_SOURCE = new URL('./pause.c', import.meta.url).pathname;
const CULVERT = new URL('../../../build/culvert', import.meta.url).pathname;

export const BUSYBOX_IMAGE = 'culvert.test/busybox:1';
export const COREDNS_IMAGE = 'culvert.test/coredns:1';
export const ECHO_IMAGE = 'culvert.test/echo:1';

/** Compiles the program. @returns its path */
export async function buildPause(dir: string): Promise<string> {
  const program = join(dir, 'pause');
  await run('cc', ['-Os', '-static', '-Wall', '-Wextra', '-Werror', '-s', '-o', program, PAUSE_SOURCE]);
  return program;
}

/** A root file system: directories that a container wants, and these files. @param files path in the image → path here */
function stage(root: string, files: Readonly<Record<string, string>>): void {
  for (const directory of ['dev', 'etc', 'proc', 'run', 'sys', 'tmp', 'var']) mkdirSync(join(root, directory), { recursive: true });
  chmodSync(join(root, 'tmp'), 0o1777);
  for (const [inside, source] of Object.entries(files)) {
    mkdirSync(dirname(join(root, inside)), { recursive: true });
    copyFileSync(source, join(root, inside)); // with its mode
  }
}

export function pauseImage(dir: string, program: string): Promise<string> {
  const root = join(dir, 'pause-root');
  stage(root, { pause: program });
  return imageOf(root, PAUSE_IMAGE, { entrypoint: ['/pause'] }, join(dir, 'pause.tar'));
}

/**
 * BusyBox under all its names. Without a command it serves HTTP on 8080: `/` says "ok", `/cgi-bin/peer` says
 * "HOSTNAME CLIENT-ADDRESS". It ends at once when told to.
 */
export async function busyboxImage(dir: string): Promise<string> {
  const root = join(dir, 'busybox-root');
  const busybox = tool('debian/busybox');
  stage(root, { 'bin/busybox': busybox });
  const { stdout } = await run(busybox, ['--list']);
  for (const name of stdout.trim().split('\n')) if (name !== 'busybox') symlinkSync('busybox', join(root, 'bin', name));
  mkdirSync(join(root, 'www/cgi-bin'), { recursive: true });
  writeFileSync(join(root, 'www/index.html'), 'ok\n');
  const peer = '#!/bin/sh\necho "Content-Type: text/plain"\necho\necho "$(hostname) $REMOTE_ADDR"\n';
  writeFileSync(join(root, 'www/cgi-bin/peer'), peer, { mode: 0o755 });
  const serve = 'trap exit TERM; httpd -f -p 8080 -h /www & wait';
  return imageOf(root, BUSYBOX_IMAGE, { entrypoint: ['/bin/sh', '-c', serve] }, join(dir, 'busybox.tar'));
}

export function corednsImage(dir: string): Promise<string> {
  const root = join(dir, 'coredns-root');
  stage(root, { coredns: tool('coredns') });
  return imageOf(root, COREDNS_IMAGE, { entrypoint: ['/coredns'] }, join(dir, 'coredns.tar'));
}

/**
 * The lab's echo server (HTTP 8080, server-first 8081, bytes 8082; see src/lab/echo.ts) out of build/culvert, with BusyBox beside it
 * for exec. 140 MB, and 60 MB of memory a pod. Its first process ignores SIGTERM: `terminationGracePeriodSeconds: 1`.
 */
export async function echoImage(dir: string): Promise<string> {
  const root = join(dir, 'echo-root');
  const { stdout } = await run('ldd', [CULVERT]);
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1]!);
  stage(root, {
    'usr/local/bin/culvert': CULVERT,
    'bin/busybox': tool('debian/busybox'),
    ...Object.fromEntries(libraries.map((library) => [library.slice(1), library])),
  });
  for (const name of ['sh', 'wget', 'nc', 'cat', 'sleep', 'hostname', 'true', 'false', 'ls', 'ip']) {
    if (!readdirSync(join(root, 'bin')).includes(name)) symlinkSync('busybox', join(root, 'bin', name));
  }
  const entrypoint = ['/bin/sh', '-c', 'exec culvert lab-echo "$(hostname)"'];
  return imageOf(root, ECHO_IMAGE, { entrypoint }, join(dir, 'echo.tar'));
}
