/** Which agents a command means: the host's, one named by its run directory, or those of a lab. */
import { existsSync } from 'node:fs';
import { CulvertError } from '../base/errors.ts';
import { findLabs, nodesOf } from '../lab/down.ts';
import { LabPaths } from '../lab/paths.ts';
import type { Door } from './admin.ts';

/** The node's name is undefined for the host's agent: only that agent knows it. */
export interface Target extends Door {
  pinDir: string;
  /** the lab it belongs to */
  lab: LabPaths | undefined;
}

export interface TargetOptions {
  runDir?: string;
  pinDir?: string;
  lab?: string;
  node?: string;
}

const HOST = { runDir: '/var/run/culvert', pinDir: '/sys/fs/bpf/culvert' };

/** @throws CulvertError USAGE when it is not clear which is meant */
export function findTargets(options: TargetOptions): Target[] {
  const runDir = options.runDir ?? process.env['CULVERT_RUN_DIR'];
  if (runDir !== undefined)
    return [{ node: options.node, runDir, pinDir: options.pinDir ?? process.env['CULVERT_PIN_DIR'] ?? HOST.pinDir, lab: undefined }];
  const lab = options.lab ?? theOneLab();
  if (lab === undefined)
    return [{ node: options.node, ...HOST, ...(options.pinDir === undefined ? {} : { pinDir: options.pinDir }), lab: undefined }];
  return labTargets(new LabPaths(lab), options.node);
}

function labTargets(lab: LabPaths, wanted: string | undefined): Target[] {
  const nodes = nodesOf(lab);
  if (nodes.length === 0)
    throw new CulvertError('USAGE', `find lab ${lab.name}: there is none; "culvert lab up --name ${lab.name}" builds it`);
  if (wanted !== undefined && !nodes.includes(wanted))
    throw new CulvertError('USAGE', `find node ${wanted}: lab ${lab.name} has ${nodes.join(', ')}`);
  return nodes
    .filter((node) => wanted === undefined || node === wanted)
    .map((node) => ({ node, runDir: lab.node(node).runDir, pinDir: lab.node(node).pinDir, lab }));
}

/** A host with an agent is a node, labs beside it are named explicitly. */
function theOneLab(): string | undefined {
  if (existsSync(HOST.runDir)) return undefined;
  const labs = findLabs();
  if (labs.length > 1) throw new CulvertError('USAGE', `choose a lab: there are ${labs.join(', ')}; say --lab NAME`);
  return labs[0];
}
