import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { runCli } from '../../../src/cli/main.ts';
import { host, kindnet, type Host } from '../../support/install.ts';

let on: Host;
beforeEach(() => {
  on = host();
});
afterEach(() => {
  on.remove();
});

const directories = (): string[] => ['--cni-bin-dir', on.binDir, '--cni-conf-dir', on.confDir];

async function culvert(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const said = { out: '', err: '' };
  const io = { out: (text: string) => (said.out += text), err: (text: string) => (said.err += text), tty: false };
  return { code: await runCli([...args, ...directories()], io), ...said };
}

describe('culvert install and uninstall', () => {
  test('put it there, say where, and take it off again', async () => {
    on.write('10-kindnet.conflist', kindnet);
    const configuration = join(on.confDir, '10-kindnet.conflist');
    const executable = join(on.binDir, 'culvert-cni');
    const first = await culvert('install', '--plugin', on.plugin, '--on-agent-down', 'closed');
    expect(first).toMatchObject({ code: 0, err: '' });
    expect(JSON.parse(first.out)).toEqual({ executable, configuration, written: true });
    expect(on.read('10-kindnet.conflist')).toContain('"onAgentDown": "closed"');
    expect(statSync(executable).mode & 0o777).toBe(0o755);
    const second = await culvert('install', '--plugin', on.plugin, '--on-agent-down', 'closed', '-o', 'table');
    expect(second.out).toContain('no, it was there');
    expect(JSON.parse((await culvert('uninstall')).out)).toEqual({ removedFrom: [configuration, executable] });
    expect(JSON.parse(on.read('10-kindnet.conflist'))).toEqual(JSON.parse(kindnet));
    expect(JSON.parse((await culvert('uninstall')).out)).toEqual({ removedFrom: [] });
  });

  test('own configuration under its default name', async () => {
    on.write('10-kindnet.conflist', kindnet);
    expect((await culvert('install', '--plugin', on.plugin, '--own-config')).code).toBe(0);
    expect(on.names()).toEqual(['02-culvert.conflist', '10-kindnet.conflist']);
    expect(on.read('10-kindnet.conflist')).toBe(kindnet);
  });

  test.each([
    [2, ['install', '--own-config=99-late.conflist'], /must sort before/],
    [2, ['install', '--on-agent-down', 'maybe'], /Allowed choices are closed, known, open/],
    [2, ['install', '--status-policy', 'maybe'], /Allowed choices are node-ready, agent-ready/],
    [1, ['install', '--cni-conf-name', '00-bad.conflist'], /00-bad.conflist: it is not JSON/],
    [1, ['install', '--plugin', '/nonexistent'], /read the plugin's executable \/nonexistent/],
  ])('exit with %s for %j', async (code, args, message) => {
    on.write('00-bad.conflist', '{');
    on.write('10-kindnet.conflist', kindnet);
    const answer = await culvert(...args.slice(0, 1), '--plugin', on.plugin, ...args.slice(1));
    expect(answer.err).toMatch(message);
    expect(answer).toMatchObject({ code, out: '' });
  });
});

describe('as a process', () => {
  const start = (...args: string[]) => {
    const child = spawn(process.execPath, ['src/main.ts', 'install', '--plugin', on.plugin, ...args, ...directories()]);
    const said = { out: '', err: '' };
    child.stdout.on('data', (data: Buffer) => (said.out += data.toString()));
    child.stderr.on('data', (data: Buffer) => (said.err += data.toString()));
    return { child, said, ended: once(child, 'exit') };
  };
  const until = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 8_000, interval: 10 });

  test('--watch repairs until SIGTERM and leaves everything in place', async () => {
    on.write('10-kindnet.conflist', kindnet);
    const { child, said, ended } = start('--watch');
    await until(() => expect(said.out).toContain('10-kindnet.conflist'));
    writeFileSync(join(on.confDir, '10-kindnet.conflist'), kindnet);
    await until(() => expect(on.read('10-kindnet.conflist')).toContain('culvert-cni'));
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(readFileSync(join(on.binDir, 'culvert-cni'), 'utf8')).toBe('#!/bin/sh\n');
    expect(on.read('10-kindnet.conflist')).toContain('culvert-cni');
  });

  test('waits for a configuration, and ends when it joined one', async () => {
    const { said, ended } = start();
    await until(() => expect(said.err).toContain('waiting: there is no network configuration'));
    on.write('10-kindnet.conflist', kindnet);
    expect(await ended).toEqual([0, null]);
    expect(JSON.parse(said.out)).toMatchObject({ written: true });
  });

  test('is stopped while it waits', async () => {
    const { child, said, ended } = start();
    await until(() => expect(said.err).toContain('waiting'));
    child.kill('SIGTERM');
    expect(await ended).toEqual([1, null]);
  });
});
