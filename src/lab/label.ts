/** `lab label`: edits labels in mesh.yaml, the lab's truth, as `kubectl label` would in a cluster. Comments stay. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isMap, parseDocument, type Document } from 'yaml';
import { CulvertError } from '../base/errors.ts';
import type { LabPaths } from './paths.ts';
import { parseTopology, podKey } from './topology.ts';

export interface LabelChange {
  key: string;
  /** undefined removes the label */
  value: string | undefined;
}

/** "key=value" or "key-". @throws CulvertError USAGE */
export function parseChange(text: string): LabelChange {
  const set = /^([A-Za-z0-9][A-Za-z0-9._/-]*)=([A-Za-z0-9._-]*)$/.exec(text);
  if (set !== null) return { key: set[1] ?? '', value: set[2] ?? '' };
  const removed = /^([A-Za-z0-9][A-Za-z0-9._/-]*)-$/.exec(text);
  if (removed !== null) return { key: removed[1] ?? '', value: undefined };
  throw new CulvertError('USAGE', `read label: "${text}" is neither KEY=VALUE nor KEY-`);
}

/**
 * @param target namespace's name, or "namespace/name" of a pod
 * @returns the new text @throws CulvertError POD_UNKNOWN
 */
export function relabel(yaml: string, file: string, kind: 'namespace' | 'pod', target: string, changes: LabelChange[]): string {
  const topology = parseTopology(yaml, file);
  const document = parseDocument(yaml);
  const path = kind === 'namespace' ? namespacePath(document, target) : podPath(topology.pods.map(podKey), target);
  for (const { key, value } of changes) {
    if (value !== undefined) document.setIn([...path, 'labels', key], value);
    else if (isMap(document.getIn([...path, 'labels']))) document.deleteIn([...path, 'labels', key]);
  }
  const text = document.toString({ lineWidth: 0 });
  parseTopology(text, file); // never write what the agents would refuse
  return text;
}

/** Rename, not write: a reader never sees half of it. */
export function labelInLab(lab: LabPaths, kind: 'namespace' | 'pod', target: string, changes: LabelChange[]): void {
  const text = relabel(readFileSync(lab.mesh, 'utf8'), lab.mesh, kind, target, changes);
  const temporary = `${lab.mesh}.new`;
  writeFileSync(temporary, text);
  renameSync(temporary, lab.mesh);
}

function namespacePath(document: Document, name: string): (string | number)[] {
  const namespaces = document.get('namespaces');
  if (!isMap(namespaces) || !namespaces.has(name)) {
    const names = isMap(namespaces) ? namespaces.items.map((item) => String(item.key)).join(', ') : 'none';
    throw new CulvertError('POD_UNKNOWN', `label namespace ${name}: the lab has ${names}`);
  }
  return ['namespaces', name];
}

function podPath(keys: string[], key: string): (string | number)[] {
  const index = keys.indexOf(key);
  if (index < 0) throw new CulvertError('POD_UNKNOWN', `label pod ${key}: the lab has ${keys.join(', ')}`);
  return ['pods', index];
}
