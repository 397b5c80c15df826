/**
 * What earlier runs of this instance left: netns that died while no agent looked, joinings that never finished, entries without an
 * owner. Runs once at start, before anything is enrolled. What belongs to a living enrolled netns is left alone.
 */
import { closeSync, openSync } from 'node:fs';
import { describe } from '../../base/errors.ts';
import { native } from '../../sys/native.ts';
import type { Datapath } from './join.ts';
import { keptSysctls } from './kept-sysctls.ts';
import { takeSettingsBack } from './netns-settings.ts';
import { pinnedCookies } from './pins.ts';
import { nothingWritten, removeEntries, removeListeners, type Written } from './pod-entries.ts';
import { listenersOf } from './listeners.ts';
import { detachPodLink, podLinkState, removePodDir } from './pod-link.ts';

export interface SweepReport {
  /** cookies of netns that are gone */
  dead: bigint[];
  /** cookies of netns whose joining did not finish */
  unfinished: bigint[];
  /** cookies that had entries and nothing else */
  orphans: bigint[];
}

/** @param written what the maps hold; entries of removed cookies are taken out of it */
export function sweep(path: Datapath, written: Map<bigint, Written>): SweepReport {
  const { pins, maps } = path;
  const report: SweepReport = { dead: [], unfinished: [], orphans: [] };
  const enrolled = new Set(maps.pods.keys());
  const pinned = new Set(pinnedCookies(pins));
  const remove = (cookie: bigint): void => {
    removeEntries(maps, cookie, written.get(cookie) ?? nothingWritten());
    written.delete(cookie);
    removePodDir(pins, cookie);
  };
  for (const cookie of pinned) {
    if (podLinkState(pins, cookie) === 'dead' && enrolled.has(cookie)) report.dead.push(cookie);
    else if (!enrolled.has(cookie)) report.unfinished.push(cookie);
  }
  for (const cookie of report.dead) {
    detachPodLink(pins, cookie);
    remove(cookie);
    enrolled.delete(cookie);
  }
  for (const cookie of report.unfinished) {
    detachPodLink(pins, cookie);
    leaveByPath(path, cookie);
    remove(cookie);
  }
  const owned = (cookie: bigint): boolean => enrolled.has(cookie) || pinned.has(cookie);
  const strays = [...written.keys(), ...maps.identity.keys(), ...maps.counters.keys().map((k) => k.cookie)].filter((c) => !owned(c));
  for (const cookie of new Set(strays)) {
    remove(cookie);
    report.orphans.push(cookie);
  }
  for (const { cookie } of maps.generation.keys()) {
    // a generation without a listener would fill the map; one with may be about to be enrolled
    if (!owned(cookie) && listenersOf(maps, cookie).every((l) => !l.alive)) removeListeners(maps, cookie);
  }
  return report;
}

/** The settings of a netns of which only the path is known. Nobody waits for them: an error is logged. */
function leaveByPath({ pins, maps, log }: Datapath, cookie: bigint): void {
  const path = maps.identity.get(cookie)?.netns ?? '';
  if (path === '') return;
  try {
    const fd = openSync(path, 'r');
    try {
      if (native.netnsCookie(fd) === cookie) takeSettingsBack(fd, keptSysctls(pins, cookie));
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    log.warn({ cookie: String(cookie), path, error: describe(error) }, 'undo an unfinished joining');
  }
}
