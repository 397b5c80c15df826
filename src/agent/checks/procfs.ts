/** Tunnels and pods are known by their processes: the agent must see those of the node, under the same numbers as the kernel tells it. */
import { readlinkSync } from 'node:fs';
import { systemCause } from '../../base/errors.ts';
import { Fault } from './check.ts';

export interface ProcView {
  procRoot: string;
  pid: number;
  readlink: (path: string) => string;
}

export const procView = (procRoot: string): ProcView => ({ procRoot, pid: process.pid, readlink: (path) => readlinkSync(path) });

const HOST_PID = "set hostPID: true in the pod, and mount the host's /proc (hostPath /proc) at procRoot";

export function lookAtProcfs({ procRoot, pid, readlink }: ProcView): string {
  let self: string;
  try {
    self = readlink(`${procRoot}/self`);
  } catch (error) {
    throw new Fault(`${procRoot} does not know this process (${systemCause(error).systemCode ?? 'unreadable'})`, HOST_PID);
  }
  if (self !== String(pid))
    throw new Fault(`${procRoot} is of another pid namespace: this process is ${pid} here and ${self} there`, HOST_PID);
  if (pid === 1) throw new Fault('this process is the first of its pid namespace: those of the node are hidden', HOST_PID);
  try {
    readlink(`${procRoot}/1/ns/net`);
  } catch (error) {
    throw new Fault(
      `the node's first process may not be looked at (${systemCause(error).systemCode ?? 'unreadable'})`,
      'add capability SYS_PTRACE; with AppArmor set the profile to Unconfined',
    );
  }
  return `${procRoot} shows the processes of the node`;
}
