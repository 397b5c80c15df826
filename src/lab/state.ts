/**
 * mesh.yaml.d/lab.json: what only the lab knows of its pods and services. One writer, atomic rename, so that the agents' file
 * source never reads half of it.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { isSystem } from '../base/errors.ts';
import type { LabPaths } from './paths.ts';

export interface LabPod {
  uid: string;
  ips: string[];
  /** path of its netns */
  netns: string;
  phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
}

export interface LabState {
  /** by "namespace/name" */
  pods: Record<string, LabPod>;
  services: Record<string, { vips: string[] }>;
}

export function readState(lab: LabPaths): LabState {
  try {
    return JSON.parse(readFileSync(lab.state, 'utf8')) as LabState;
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return { pods: {}, services: {} };
    throw error;
  }
}

export function writeState(lab: LabPaths, state: LabState): void {
  mkdirSync(dirname(lab.state), { recursive: true });
  const temporary = `${lab.dir}/lab.json.new`; // outside the watched directory
  writeFileSync(temporary, `${JSON.stringify(state, undefined, 1)}\n`);
  renameSync(temporary, lab.state);
}

/** Sets (undefined: removes) one pod. Read and written without a pause between, so pods starting side by side do not lose each other. */
export function setPod(lab: LabPaths, key: string, pod: LabPod | undefined): void {
  const state = readState(lab);
  if (pod === undefined) Reflect.deleteProperty(state.pods, key);
  else state.pods[key] = pod;
  writeState(lab, state);
}
