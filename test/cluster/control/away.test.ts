/** Control whose API server is away: at its start, and when it is told to end. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startApiServer, type ApiServer } from '../../support/apiserver.ts';
import { installControl } from '../../support/control-process.ts';
import { Component } from '../../support/kubernetes/component.ts';
import { until } from '../../support/kubernetes/until.ts';

/** What its pod has to end in. */
const GRACE_MS = 30_000;

let cluster: ApiServer;
let kubeconfig: string;
let control: Component;
let probes = 0;

beforeAll(async () => {
  cluster = await startApiServer();
  kubeconfig = await installControl(cluster);
  probes = await freePort();
});
afterAll(async () => {
  await control.kill();
  await cluster.close();
});

test('it waits for one that is not there yet, says so once, and the probe tells', async () => {
  await cluster.kill();
  control = launch('waits');
  await until('the probe', async () => (await readyz()) === 503);
  await until('a word about it', () => logOf(control).includes('waiting for it'));
  await new Promise((resolve) => setTimeout(resolve, 1000)); // some attempts more
  expect(control.running).toBe(true);
  expect(logOf(control).match(/waiting for it/g)).toHaveLength(1);
  await cluster.restart(); // which forbids everything at first
  await until('control to be ready', async () => (await readyz()) === 200, 30_000);
});

test('it ends in time when the server answers nothing any more', async () => {
  await until('the lead', () => logOf(control).includes('leads now'));
  process.kill(cluster.pid(), 'SIGSTOP');
  try {
    await until('an attempt to renew it that hangs', () => logOf(control).includes('leads no more'));
    process.kill(control.pid, 'SIGTERM');
    await until('its end', () => !control.running, GRACE_MS);
    expect(logOf(control)).toContain('control stopped');
  } finally {
    process.kill(cluster.pid(), 'SIGCONT');
  }
});

test('it ends in time when it still waits', async () => {
  process.kill(cluster.pid(), 'SIGSTOP');
  try {
    control = launch('ends');
    await until('the probe', async () => (await readyz()) === 503);
    process.kill(control.pid, 'SIGTERM');
    await until('its end', () => !control.running, GRACE_MS);
  } finally {
    process.kill(cluster.pid(), 'SIGCONT');
  }
});

test('it ends when it cannot listen', async () => {
  const taken = await listen();
  control = launch('taken', String((taken.address() as AddressInfo).port));
  await until('its end', () => !control.running);
  expect(logOf(control)).toContain('EADDRINUSE');
  taken.close();
});

function launch(name: string, port = '0'): Component {
  const dir = join(cluster.dir, name);
  mkdirSync(dir);
  const config = join(dir, 'config.yaml');
  writeFileSync(config, '{}\n'); // not the machine's own
  const main = join(import.meta.dirname, '../../../src/main.ts');
  const component = new Component(
    name,
    [
      ...[process.execPath, main, 'control', '--config', config, '--kubeconfig', kubeconfig, '--run-dir', dir],
      ...[
        '--address',
        `127.0.0.1:${port}`,
        '--readiness-port',
        String(probes),
        '--lease-duration-ms',
        '4000',
        '--drain-deadline-ms',
        '1000',
      ],
    ],
    join(dir, 'log'),
  );
  component.start();
  return component;
}

function logOf(component: Component): string {
  return readFileSync(component.log, 'utf8');
}

/** @returns the status; 0: nobody there */
async function readyz(): Promise<number> {
  return fetch(`http://127.0.0.1:${probes}/readyz`).then(
    ({ status }) => status,
    () => 0,
  );
}

async function listen(): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

async function freePort(): Promise<number> {
  const server = await listen();
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
