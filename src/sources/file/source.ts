/**
 * The file source: a mesh out of one YAML file and the JSON files beside it, watched. Agents give their node's name and may
 * annotate; tunnels give none and only read. A bad edit is reported with every fault named and the last good snapshot stays.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { CulvertError, isSystem } from '../../base/errors.ts';
import type { MeshSnapshot, Source } from '../source.ts';
import { AnnotationsFile } from './annotations.ts';
import { mergeMesh, type MeshText } from './merge.ts';
import type { ReadDocuments } from './read.ts';
import { watchMesh } from './watch.ts';

export interface FileSourceOptions {
  /** path of the YAML; `<path>.d/` beside it */
  meshFile: string;
  /** whose pods may be annotated; undefined: none */
  node?: string;
  /** quiet time after a change before the files are read; ms, default 20 */
  debounceMs?: number;
}

type Listener = { onSnapshot: (snapshot: MeshSnapshot) => void; onError: (error: Error) => void };

/** Each listener gets every snapshot from the first one on; the files are watched while there is a listener. */
export function createFileSource(options: FileSourceOptions): Source {
  const listeners = new Set<Listener>();
  const directory = `${options.meshFile}.d`;
  let last: { snapshot: MeshSnapshot; text: string } | undefined;
  let lastFault = '';
  const known: ReadDocuments = new Map();
  let watcher: { close(): void } | undefined;

  const refresh = (): void => {
    try {
      const merged = mergeMesh(readMesh(options.meshFile, directory), known);
      if (!merged.ok) throw new CulvertError('SOURCE_INVALID', `read mesh: ${merged.faults.join('; ')}`);
      lastFault = '';
      const text = canonical(merged.snapshot);
      if (text === last?.text) return;
      last = { snapshot: merged.snapshot, text };
      for (const listener of [...listeners]) listener.onSnapshot(merged.snapshot);
    } catch (error) {
      const fault = error instanceof CulvertError ? error : new CulvertError('SYSTEM', `read mesh ${options.meshFile}`, error);
      if (fault.message === lastFault) return; // an editor writes a file several times; one report per fault
      lastFault = fault.message;
      for (const listener of [...listeners]) listener.onError(fault);
    }
  };

  const living = (): ReadonlySet<string> | undefined => (last === undefined ? undefined : new Set(last.snapshot.pods.keys()));
  const annotations =
    options.node === undefined ? undefined : new AnnotationsFile(join(directory, `annotations-${options.node}.json`), living);

  return {
    kind: 'file',
    watch(onSnapshot, onError) {
      const listener = { onSnapshot, onError };
      listeners.add(listener);
      watcher ??= watchMesh(options.meshFile, directory, options.debounceMs ?? 20, refresh);
      setImmediate(() => {
        if (!listeners.has(listener)) return;
        if (last === undefined) refresh();
        else onSnapshot(last.snapshot);
      });
      return {
        close() {
          listeners.delete(listener);
          if (listeners.size > 0) return;
          watcher?.close();
          watcher = undefined;
        },
      };
    },
    synced: () => last !== undefined,
    async annotate(pod, key, value) {
      if (annotations === undefined)
        throw new CulvertError('SOURCE_INVALID', `annotate pod ${pod.namespace}/${pod.name}: this source belongs to no node`);
      await annotations.set(pod.uid, key, value);
    },
  };
}

function readMesh(meshFile: string, directory: string): MeshText {
  const mesh = { file: basename(meshFile), text: readFileSync(meshFile, 'utf8') };
  const documents: MeshText['annotations'] = [];
  let lab: MeshText['lab'];
  for (const name of entries(directory)) {
    const document = { file: `${basename(directory)}/${name}`, text: '' };
    if (name !== 'lab.json' && !/^annotations-.+\.json$/.test(name)) continue;
    document.text = readFileSync(join(directory, name), 'utf8');
    if (name === 'lab.json') lab = document;
    else documents.push(document);
  }
  return { mesh, lab, annotations: documents };
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (isSystem(error, 'ENOENT')) return [];
    throw error;
  }
}

function canonical(snapshot: MeshSnapshot): string {
  return JSON.stringify([snapshot.trustDomain, [...snapshot.namespaces], [...snapshot.pods], [...snapshot.services]]);
}
