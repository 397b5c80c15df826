/**
 * The load, a program of its own in a pod: requests without end, one after the other of each kind. argv: host, port, file for the
 * totals, which is written ten times a second.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { noTotals, type Kind } from './totals.ts';

const [host = '', port = '', file = ''] = process.argv.slice(2);
const PAUSE_MS = 4;
const RENEW_MS = 2000;
/** Longer than anything should hold a request up. */
const PATIENCE_MS = 15_000;
const totals = noTotals();

function once(kind: Kind, agent: Agent | false): Promise<void> {
  return new Promise((resolve) => {
    const done = (message: string): void => {
      if (message === '') totals[kind].ok += 1;
      else {
        totals[kind].failed += 1;
        totals.failures = [...totals.failures, { at: new Date().toISOString(), kind, message }].slice(-100);
      }
      resolve();
    };
    const asked = request({ host, port, agent, timeout: PATIENCE_MS }, (response) => {
      response.on('end', () => {
        done(response.statusCode === 200 ? '' : `status ${response.statusCode}`);
      });
      response.on('error', (error) => {
        done(`answer cut: ${error.message}`);
      });
      response.resume();
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${PATIENCE_MS / 1000} s`)));
    asked.on('error', (error) => {
      done(`${asked.reusedSocket ? 'on a kept connection: ' : ''}${error.message}`);
    });
    asked.on('socket', () => {
      if (!asked.reusedSocket) totals[kind].connections += 1;
    });
    asked.end();
  });
}

const keeping = (): Agent => new Agent({ keepAlive: true, maxSockets: 1 });

async function fresh(): Promise<never> {
  for (;;) {
    await once('fresh', false);
    await sleep(PAUSE_MS);
  }
}

async function renewed(): Promise<never> {
  for (;;) {
    const [agent, until] = [keeping(), performance.now() + RENEW_MS];
    while (performance.now() < until) {
      await once('renewed', agent);
      await sleep(PAUSE_MS);
    }
    agent.destroy();
  }
}

async function held(): Promise<never> {
  const agent = keeping();
  for (;;) {
    await once('held', agent);
    await sleep(PAUSE_MS);
  }
}

setInterval(() => {
  writeFileSync(`${file}.new`, JSON.stringify(totals));
  renameSync(`${file}.new`, file);
}, 100);
process.on('SIGTERM', () => process.exit(0));
await Promise.all([fresh(), fresh(), renewed(), held()]);
