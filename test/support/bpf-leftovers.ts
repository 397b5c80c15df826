/** What a test of the programs must leave behind: nothing. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import type { LoadedObject } from '../../src/sys/native.ts';
import { native } from '../../src/sys/native.ts';
import type { TestNode } from './netns.ts';

/** The kernel frees programs and maps a grace period after their last user. */
const PATIENCE_MS = 30_000;

export interface KernelIds {
  prog: number[];
  map: number[];
}

/** To be asked before the object is closed. */
export function idsOf(loaded: LoadedObject): KernelIds {
  return { prog: loaded.programs.map((p) => native.bpfInfo(p.fd).id), map: loaded.maps.map((m) => native.bpfInfo(m.fd).id) };
}

/** @throws naming each thing of the node or the object that is still there */
export async function expectNothingLeft(node: TestNode, ids: KernelIds): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const left = [
      ...readdirSync('/run/netns').filter((name) => name.startsWith(node.prefix)),
      ...[node.cgroupRoot, node.dir].filter(existsSync),
      ...alive('prog', ids.prog),
      ...alive('map', ids.map),
    ];
    if (left.length === 0) return;
    if (performance.now() > deadline) throw new Error(`left behind: ${left.join(', ')}`);
    await setTimeout(50);
  }
}

function alive(kind: keyof KernelIds, ids: number[]): string[] {
  const list = JSON.parse(execFileSync('bpftool', ['-j', kind, 'show'], { encoding: 'utf8' })) as { id: number; name?: string }[];
  return list.filter(({ id }) => ids.includes(id)).map(({ id, name }) => `${kind} ${id} ${name ?? ''}`);
}
