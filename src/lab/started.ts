/** When a daemon of the lab runs: each kind shows it in its own way, and none of them may die meanwhile. */
import { existsSync, watch } from 'node:fs';
import { connect } from 'node:net';
import { basename, dirname } from 'node:path';
import type { AgentStatus } from '../agent/api.ts';
import { ask } from '../cli/admin.ts';
import { configDumpIn } from '../cli/external-tunnel.ts';
import { CulvertError, describe } from '../base/errors.ts';
import { Netns } from '../sys/netns.ts';
import { processesOf } from './cgroups.ts';
import type { LabPaths } from './paths.ts';
import { isAlive, tail, type ProcessRecord } from './processes.ts';
import { until } from './until.ts';

export interface Starting {
  record: ProcessRecord;
  /** "start agent of node1" */
  what: string;
  log: string;
}

const TIMEOUT_MS = 15_000;

/** Waits for a connectable unix socket: its directory is watched. @throws CulvertError LAB with the end of its log */
export async function socketUp(path: string, starting: Starting): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const watcher = watch(dirname(path), (_, file) => {
      if (file === basename(path)) probe();
    });
    const done = (act: () => void): void => {
      watcher.close();
      clearInterval(alive);
      clearTimeout(deadline);
      act();
    };
    const failed = (cause: string): void => {
      done(() => {
        reject(fault(starting, cause));
      });
    };
    const probe = (): void => {
      if (!existsSync(path)) return;
      const socket = connect(path);
      socket.once('connect', () => {
        socket.destroy();
        done(resolve);
      });
      socket.once('error', () => undefined); // a stale file of the one before; the new one makes another event
    };
    const alive = setInterval(() => {
      if (isAlive(starting.record)) probe();
      else failed('it ended');
    }, 100);
    const deadline = setTimeout(() => {
      failed('its socket did not appear within 15 s');
    }, TIMEOUT_MS);
    probe();
  });
}

/** Waits for Istio's admin interface on localhost of the tunnel's netns. @throws CulvertError LAB */
export async function adminPortUp(netnsPath: string, starting: Starting): Promise<void> {
  using netns = Netns.open(netnsPath);
  await seen('its admin interface did not answer within 15 s', starting, async () => {
    await configDumpIn(netns);
    return true;
  });
}

/** Waits until a process of its cgroup is connected to the agent: all that any ZDS tunnel has in common. @throws CulvertError LAB */
export async function connectedToAgent(lab: LabPaths, node: string, cgroup: string, starting: Starting): Promise<void> {
  await seen('it did not connect to the agent within 15 s', starting, async () => {
    const { tunnel } = await ask<AgentStatus>({ node, runDir: lab.node(node).runDir }, { op: 'status' });
    const own = processesOf(cgroup);
    return tunnel.connections.some(({ pid }) => own.includes(pid));
  });
}

async function seen(late: string, starting: Starting, look: () => Promise<boolean>): Promise<void> {
  const state = await until(starting.what, TIMEOUT_MS, async () => {
    if (!isAlive(starting.record)) return 'ended';
    return (await look()) ? 'up' : undefined;
  }).catch((error: unknown) => {
    throw fault(starting, `${late} (${describe(error)})`);
  });
  if (state === 'ended') throw fault(starting, 'it ended');
}

function fault({ what, log }: Starting, cause: string): CulvertError {
  return new CulvertError('LAB', `${what}: ${cause}; its log ends: ${tail(log)}`);
}
