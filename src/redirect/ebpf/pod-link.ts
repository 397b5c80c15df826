/** The sk_lookup link of one netns: made when it joins, updated when the program changes, detached when it leaves. */
import { rmdirSync } from 'node:fs';
import { isSystem } from '../../base/errors.ts';
import { native } from '../../sys/native.ts';
import { SK_LOOKUP_ATTACH } from './attach-points.ts';
import { detachPin, openPin } from './cgroup-links.ts';
import { removeTree, unpin, type Pins } from './pins.ts';
import { loadPodProgram, type PodTemplate } from './pod-program.ts';
import type { SparePrograms } from './spare-programs.ts';

export type PodLinkState =
  /** attached to a living netns */
  | 'live'
  /** the pin is there, its netns is not */
  | 'dead'
  | 'none';

export function podLinkState(pins: Pins, cookie: bigint): PodLinkState {
  const fd = openPin(pins.lookup(cookie));
  if (fd === undefined) return 'none';
  try {
    // the kernel forgets the netns of a link when the netns dies, or when the link is detached
    return native.bpfInfo(fd).netnsIno === 0 ? 'dead' : 'live';
  } finally {
    native.closeFd(fd);
  }
}

/** The pod's directory must exist. A live link is left alone, a dead one replaced. */
export function attachPodLink(pins: Pins, cookie: bigint, netnsFd: number, programs: Pick<SparePrograms, 'take'>): void {
  const state = podLinkState(pins, cookie);
  if (state === 'live') return;
  if (state === 'dead') unpin(pins.lookup(cookie));
  const program = programs.take(cookie);
  try {
    const link = native.bpfLinkCreate(program, netnsFd, SK_LOOKUP_ATTACH);
    try {
      native.bpfPin(link, pins.lookup(cookie));
    } finally {
      native.closeFd(link);
    }
  } finally {
    native.closeFd(program);
  }
}

export function detachPodLink(pins: Pins, cookie: bigint): void {
  detachPin(pins.lookup(cookie));
}

/** The pod's directory with link pin and markers. */
export function removePodDir(pins: Pins, cookie: bigint): void {
  try {
    rmdirSync(pins.pod(cookie));
  } catch (error) {
    if (isSystem(error, 'ENOTEMPTY')) removeTree(pins.pod(cookie));
    else if (!isSystem(error, 'ENOENT')) throw error;
  }
}

/** Puts the program of a new version under every link. @returns how many */
export function updatePodLinks(pins: Pins, cookies: bigint[], template: PodTemplate): number {
  let updated = 0;
  for (const cookie of cookies) {
    const link = openPin(pins.lookup(cookie));
    if (link === undefined) continue;
    try {
      const program = loadPodProgram(template, cookie);
      try {
        native.bpfLinkUpdate(link, program);
        updated++;
      } finally {
        native.closeFd(program);
      }
    } catch (error) {
      // its netns is gone: the sweep removes it
      if (!isSystem(error, 'ENOLINK') && !isSystem(error, 'EINVAL')) throw error;
    } finally {
      native.closeFd(link);
    }
  }
  return updated;
}
