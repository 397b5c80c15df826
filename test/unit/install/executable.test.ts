import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Executable, removeExecutable } from '../../../src/install/executable.ts';
import { host, unprivileged, type Host } from '../../support/install.ts';

let on: Host;
let path: string;
beforeEach(() => {
  on = host();
  path = join(on.binDir, 'culvert-cni');
});
afterEach(() => {
  on.remove();
});

const install = (): Promise<boolean> => new Executable(on.plugin, on.binDir).install();

test('is copied whole, executable for all, and nothing is beside it', async () => {
  expect(await install()).toBe(true);
  expect(readFileSync(path, 'utf8')).toBe('#!/bin/sh\n');
  expect(statSync(path).mode & 0o7777).toBe(0o755);
  expect(readdirSync(on.binDir)).toEqual(['culvert-cni']);
});

test('is not written when the same bytes are there', async () => {
  await install();
  const { ino, mtimeMs } = statSync(path);
  expect(await install()).toBe(false);
  expect(statSync(path)).toMatchObject({ ino, mtimeMs });
});

test('is written again when one byte, the mode or the kind is another', async () => {
  const executable = new Executable(on.plugin, on.binDir);
  await executable.install();
  const { atime, mtime } = statSync(path);
  writeFileSync(path, '#!/bin/zh\n');
  utimesSync(path, atime, mtime); // same size, same time
  expect(await executable.install()).toBe(true);
  chmodSync(path, 0o644);
  expect(await executable.install()).toBe(true);
  expect(await executable.install()).toBe(false);
  writeFileSync(on.plugin, 'another version');
  expect(await executable.install()).toBe(true);
  expect(readFileSync(path, 'utf8')).toBe('another version');
});

test('large ones are compared to the end', async () => {
  writeFileSync(on.plugin, Buffer.alloc((5 << 20) + 7, 1));
  await install();
  const bytes = readFileSync(path);
  bytes[bytes.length - 1] = 2;
  writeFileSync(path, bytes);
  expect(await install()).toBe(true);
  expect(await install()).toBe(false);
});

test('takes the place of a link, not of what it points to', async () => {
  const other = join(on.root, 'other');
  writeFileSync(other, 'other');
  mkdirSync(on.binDir);
  symlinkSync(other, path);
  expect(await install()).toBe(true);
  expect(readFileSync(other, 'utf8')).toBe('other');
  expect(readFileSync(path, 'utf8')).toBe('#!/bin/sh\n');
});

test('what an interrupted run left is removed, what is somebody else’s is not', async () => {
  mkdirSync(on.binDir);
  writeFileSync(`${path}.tmp.culvert.0123`, 'half');
  writeFileSync(join(on.binDir, 'bridge.tmp.1'), 'half');
  await install();
  expect(readdirSync(on.binDir)).toEqual(['bridge.tmp.1', 'culvert-cni']);
});

test('a place where it cannot be written says so, and keeps nothing', async () => {
  mkdirSync(path, { recursive: true });
  await expect(install()).rejects.toMatchObject({ code: 'SYSTEM', message: expect.stringContaining(`write ${path}`) as string });
  expect(readdirSync(on.binDir)).toEqual(['culvert-cni']);
});

test('permission denied has its remedy', async () => {
  mkdirSync(on.binDir, { mode: 0o555 });
  chmodSync(on.plugin, 0o755);
  await unprivileged(() => expect(install()).rejects.toThrow(/permission denied; run as root/));
});

test('directories are made; a way that leads nowhere has an error', async () => {
  const deep = join(on.root, 'opt/cni/bin');
  expect(await new Executable(on.plugin, deep).install()).toBe(true);
  expect(existsSync(join(deep, 'culvert-cni'))).toBe(true);
  symlinkSync('/nonexistent/cni', join(on.root, 'cni'));
  await expect(new Executable(on.plugin, join(on.root, 'cni/bin')).install()).rejects.toMatchObject({ code: 'SYSTEM' });
});

test('a plugin that is not there is named', async () => {
  await expect(new Executable('/nonexistent/culvert-cni', on.binDir).install()).rejects.toThrow(
    "read the plugin's executable /nonexistent/culvert-cni",
  );
});

test('is removed once', async () => {
  await install();
  expect(await removeExecutable(on.binDir)).toBe(true);
  expect(await removeExecutable(on.binDir)).toBe(false);
  expect(await removeExecutable('/nonexistent')).toBe(false);
});
