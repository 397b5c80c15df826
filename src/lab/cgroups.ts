/** The lab's subtree of cgroup v2: each node is a root of its own for its agent, and killing the subtree ends a lab. */
import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError, isSystem } from '../base/errors.ts';
import { cgroup2Mount, createCgroup } from '../sys/cgroup.ts';
import type { LabPaths } from './paths.ts';

export function labCgroup(lab: LabPaths): string {
  return join(cgroup2Mount(), lab.cgroupName);
}

export function nodeCgroup(lab: LabPaths, node: string): string {
  return join(labCgroup(lab), node);
}

/** As the kubelet's cgroupfs driver names them. */
export function podCgroup(lab: LabPaths, node: string, uid: string, containerId: string): string {
  return join(nodeCgroup(lab, node), 'kubepods', 'besteffort', `pod${uid}`, containerId);
}

export function makeCgroup(path: string): string {
  createCgroup(path);
  return path;
}

/** Pids in the cgroup and below. */
export function processesOf(path: string): number[] {
  if (!existsSync(path)) return [];
  const here = readFileSync(join(path, 'cgroup.procs'), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
  return [...here, ...children(path).flatMap(processesOf)];
}

/** Ends every process of the subtree and removes it. Nothing there is success. */
export async function removeCgroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  const deadline = performance.now() + 5000;
  try {
    writeFileSync(join(path, 'cgroup.kill'), '1');
  } catch (error) {
    if (!isSystem(error, 'ENOENT') && !isSystem(error, 'EACCES')) throw error;
    for (const pid of processesOf(path)) kill(pid); // kernels before 5.14
  }
  while (populated(path)) {
    if (performance.now() > deadline)
      throw new CulvertError('LAB', `remove cgroup ${path}: processes ${processesOf(path).join(', ')} do not end`);
    await delay(3);
  }
  remove(path);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!isSystem(error, 'ESRCH')) throw error;
  }
}

function populated(path: string): boolean {
  return readFileSync(join(path, 'cgroup.events'), 'utf8').includes('populated 1');
}

function remove(path: string): void {
  for (const child of children(path)) remove(child);
  rmdirSync(path);
}

function children(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(path, entry.name));
}
