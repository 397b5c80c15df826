/** Which tunnel a lab runs: what is refused before anything is built, and what its program is given. */
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { prepareControl } from '../../../src/lab/control.ts';
import { LabPaths } from '../../../src/lab/paths.ts';
import { checkTunnel, readTunnel, tunnelCommand, tunnelName, writeTunnel } from '../../../src/lab/tunnels.ts';

const root = mkdtempSync(join(tmpdir(), 'cvt-tunnels-'));
const lab = new LabPaths('tunnels', { root, cgroupPrefix: 'cvt-none-' });

beforeAll(() => {
  mkdirSync(lab.dir);
});

afterAll(() => {
  rmSync(root, { recursive: true });
});

test.each([
  ['/nowhere/ztunnel', 'there is no such file'],
  [root, 'it is no file'],
  ['ztunnel', 'it must be a path'],
])('%s is refused: %s', (ztunnel, cause) => {
  expect(() => checkTunnel({ ztunnel })).toThrow(`run tunnel "${ztunnel}": ${cause}`);
});

test('a file that cannot be executed is refused; one that can, the built-in and a program of PATH are not', () => {
  const path = join(root, 'plain');
  writeFileSync(path, '', { mode: 0o644 });
  expect(() => checkTunnel({ ztunnel: path })).toThrow(`run tunnel "${path}": it is not executable`);
  checkTunnel({ ztunnel: process.execPath });
  checkTunnel({ argv: ['node', 'tunnel.js'] });
  checkTunnel('builtin');
});

test('what was written is read again; a lab that says nothing runs the built-in one', () => {
  expect(readTunnel(lab)).toBe('builtin');
  for (const tunnel of [{ ztunnel: '/opt/ztunnel' }, { argv: ['a', 'b'] }] as const) {
    writeTunnel(lab, tunnel as Parameters<typeof writeTunnel>[1]);
    expect(readTunnel(lab)).toEqual(tunnel);
  }
  expect(tunnelName({ ztunnel: '/opt/ztunnel' })).toBe('/opt/ztunnel');
});

test("Istio's is told by environment, with the node's own token; any other by two flags", () => {
  prepareControl(lab, ['node1', 'node2']);
  const istio = tunnelCommand(lab, 'node2', { ztunnel: '/opt/ztunnel' });
  expect(istio).toMatchObject({ argv: ['/opt/ztunnel'], door: 'admin-port' });
  expect(istio.env).toMatchObject({
    INPOD_UDS: lab.node('node2').zdsSocket,
    NODE_NAME: 'node2',
    AUTH_TOKEN: join(lab.controlDir, 'node2.token'),
    XDS_ADDRESS: 'https://172.31.0.254:15012',
    CA_ROOT_CA: join(lab.ca, 'ca.crt'),
  });
  const other = tunnelCommand(lab, 'node1', { argv: ['x', '--y'] });
  expect(other).toEqual({ argv: ['x', '--y', '--zds-socket', lab.node('node1').zdsSocket, '--node', 'node1'], env: {}, door: 'zds' });
});
