/** `lab exec`: a program inside a pod, that is in its network namespace and its cgroup, with our terminal. */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { CulvertError } from '../base/errors.ts';
import { podCgroup } from './cgroups.ts';
import { inNetns } from './network/netns.ts';
import type { LabPaths } from './paths.ts';
import { readState } from './state.ts';
import { podKey, readTopology, type TopologyPod } from './topology.ts';

export interface PodPlace {
  pod: TopologyPod;
  netns: string;
  cgroup: string;
  ips: string[];
}

/** @param key "namespace/name" @throws CulvertError POD_UNKNOWN naming the pods that there are */
export function placeOf(lab: LabPaths, key: string): PodPlace {
  const { topology } = readTopology(lab.mesh);
  const pod = topology.pods.find((candidate) => podKey(candidate) === key);
  const known = readState(lab).pods[key];
  if (pod === undefined || known === undefined) {
    throw new CulvertError('POD_UNKNOWN', `find pod ${key}: lab ${lab.name} has ${topology.pods.map(podKey).join(', ')}`);
  }
  const podDir = dirname(podCgroup(lab, pod.node, known.uid, 'any'));
  const container = readdirSync(podDir, { withFileTypes: true }).find((entry) => entry.isDirectory());
  if (container === undefined) throw new CulvertError('POD_UNKNOWN', `find pod ${key}: it has no container`);
  return { pod, netns: known.netns, ips: known.ips, cgroup: join(podDir, container.name) };
}

/** argv that enters cgroup and netns of the pod, in this order, and then becomes the program */
export function inPod(place: PodPlace, argv: string[]): string[] {
  return ['sh', '-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', place.cgroup, ...inNetns(place.netns, argv)];
}

/** Runs in the foreground. @returns the program's exit code, 128 + signal when killed */
export async function execInPod(place: PodPlace, argv: string[]): Promise<number> {
  const [program, ...args] = inPod(place, argv) as [string, ...string[]];
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, HOSTNAME: place.pod.name } });
    child.on('error', (error) => {
      reject(new CulvertError('LAB', `run ${argv.join(' ')} in pod ${podKey(place.pod)}`, error));
    });
    child.on('close', (code, signal) => {
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}
