/** `lab logs`: the log of an agent, a tunnel or a pod, to its end or followed. */
import { closeSync, existsSync, fstatSync, openSync, readSync, watch } from 'node:fs';
import { CulvertError, isSystem } from '../base/errors.ts';
import { hasControl } from './control.ts';
import { nodesOf } from './down.ts';
import { tunnelSlots, type LabPaths } from './paths.ts';
import { readTopology, podKey } from './topology.ts';

export interface LogFile {
  /** "node1 agent", "shop/web-1" */
  label: string;
  path: string;
}

/** @param what "agent", "ztunnel", "control" or "namespace/pod" @param node undefined: of all nodes */
export function logFiles(lab: LabPaths, what: string, node: string | undefined): LogFile[] {
  const nodes = nodesOf(lab).filter((name) => node === undefined || name === node);
  if (what === 'agent') return nodes.map((name) => ({ label: `${name} agent`, path: lab.node(name).agentLog }));
  if (what === 'ztunnel') {
    return nodes.flatMap((name) =>
      tunnelSlots
        .map((slot) => ({ label: `${name} ${slot}`, path: lab.node(name).tunnels[slot].log }))
        .filter(({ path }, i) => i === 0 || existsSync(path)),
    );
  }
  if (what === 'control' && hasControl(lab)) return [{ label: 'control', path: lab.controlLog }];
  const pod = readTopology(lab.mesh).topology.pods.find((candidate) => podKey(candidate) === what);
  if (pod === undefined)
    throw new CulvertError('USAGE', `find log of "${what}": it is neither agent, ztunnel, control nor a pod NS/NAME of lab ${lab.name}`);
  return [{ label: what, path: lab.podLog(pod.node, pod.namespace, pod.name) }];
}

/** Hands on what the file has, and with `follow` all that it gets, until the signal. */
export async function readLog(file: LogFile, write: (text: string) => void, follow?: AbortSignal): Promise<void> {
  let fd: number;
  try {
    fd = openSync(file.path, 'r');
  } catch (error) {
    if (isSystem(error, 'ENOENT')) throw new CulvertError('LAB', `read log of ${file.label}: there is none yet`);
    throw error;
  }
  try {
    drain(fd, write);
    if (follow === undefined) return;
    await new Promise<void>((resolve) => {
      const watcher = watch(file.path, () => {
        drain(fd, write);
      });
      follow.addEventListener('abort', () => {
        watcher.close();
        resolve();
      });
    });
  } finally {
    closeSync(fd);
  }
}

function drain(fd: number, write: (text: string) => void): void {
  const buffer = Buffer.alloc(Math.max(65_536, Math.min(fstatSync(fd).size, 1 << 22)));
  for (;;) {
    const count = readSync(fd, buffer);
    if (count === 0) return;
    write(buffer.toString('utf8', 0, count));
  }
}
